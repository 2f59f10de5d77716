//! Matches and targets of iptables in the words of iptables-extensions(8): the same structures stand in legacy tables and in
//! the rules of iptables-nft. Those that are not known are named, and their options are not shown.

mod matching;
mod target;

/// A match or a target as the kernel has it.
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    /// Of `info`.
    pub(super) revision: u32,
    /// Its structure, in the kernel's byte order where nothing else is said.
    pub(super) info: &'a [u8],
    pub(super) is_v6: bool,
}

/// What it comes to.
pub(super) enum Shown {
    Words(String),
    /// Somebody's own words.
    Comment(String),
}

/// Looks at the packet.
pub(super) fn matching(extension: &Extension<'_>) -> Shown {
    if extension.name == "comment" {
        return Shown::Comment(crate::netlink::attributes::text(extension.info));
    }
    let options = matching::options(extension);
    Shown::Words(match options {
        Some(options) => format!("-m {}{options}", extension.name),
        None => format!("-m {} [options not shown]", extension.name),
    })
}

/// Decides, or changes the packet.
pub(super) fn target(extension: &Extension<'_>) -> Shown {
    let options = target::options(extension).or_else(|| {
        // Options of which none is set are none, whatever they are.
        extension.info.iter().all(|byte| *byte == 0).then(String::new)
    });
    Shown::Words(match options {
        Some(options) => format!("-j {}{options}", extension.name),
        None => format!("-j {} [options not shown]", extension.name),
    })
}

/// A number in the kernel's byte order.
fn short(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// A number in the kernel's byte order.
fn long(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests;
