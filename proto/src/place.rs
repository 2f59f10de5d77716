//! Whence on a node a probe is sent.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of a file.
const NAME_BYTES: usize = 255;

/// A network namespace of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The agent's own, which is the host's.
    Host,
    /// One with a name under `/run/netns`.
    Named(String),
    /// That of a process, by the number it has where the agent's `/proc` comes from.
    Process(u32),
    /// Whichever has this address.
    Holder(IpAddr),
}

impl FromStr for Place {
    type Err = String;

    /// Empty: the host's. Digits: of a process. `@` and an address: of whoever has it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Host);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let process = text.parse().ok().filter(|process| *process > 0);
            return process
                .map(Self::Process)
                .ok_or_else(|| format!("netns: {text:.20} is no number of a process"));
        }
        if let Some(address) = text.strip_prefix('@') {
            let holder = address.parse().map(Self::Holder);
            return holder.map_err(|_| format!("netns: {address:.50} is no address"));
        }
        let is_name = text.len() <= NAME_BYTES
            && !text.contains(|character: char| character == '/' || character.is_control())
            && text != "."
            && text != "..";
        if is_name {
            Ok(Self::Named(text.to_owned()))
        } else {
            let shown: String = text.chars().take(40).collect();
            Err(format!("netns: {shown:?} is no name of a network namespace; give one of `ip netns list`"))
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => Ok(()),
            Self::Named(name) => f.write_str(name),
            Self::Process(process) => process.fmt(f),
            Self::Holder(address) => write!(f, "@{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_name_or_a_process_and_never_a_path() {
        assert_eq!("".parse(), Ok(Place::Host));
        assert_eq!("1234".parse(), Ok(Place::Process(1234)));
        assert_eq!("01".parse::<Place>().unwrap().to_string(), "1", "one way to write each");
        assert_eq!("@FD00::1".parse::<Place>().unwrap().to_string(), "@fd00::1");
        assert_eq!("cni-7f3k".parse(), Ok(Place::Named("cni-7f3k".into())));
        for wrong in
            ["0", "4294967296", "@", "@10.0.0.256", "@a", "..", ".", "../1", "a/b", "a\n", &"n".repeat(256)]
        {
            assert!(wrong.parse::<Place>().is_err_and(|reason| reason.starts_with("netns: ")), "{wrong:?}");
        }
    }
}
