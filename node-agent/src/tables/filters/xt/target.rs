//! Targets, each with the structure of its header in `linux/netfilter/`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::matching::masked;
use super::{Extension, long, short};

/// What comes after the name, with a blank before it; absent: it is not known.
pub(super) fn options(extension: &Extension<'_>) -> Option<String> {
    let info = extension.info;
    match (extension.name, extension.revision) {
        ("MARK", 2) => Some(format!(" --set-xmark {:#x}/{:#x}", long(info, 0)?, long(info, 4)?)),
        ("CONNMARK", 1) => connection_mark(info),
        ("DNAT" | "SNAT", 0) if !extension.is_v6 => old_translation(extension),
        ("DNAT" | "SNAT", 1 | 2) => translation(extension),
        ("MASQUERADE" | "REDIRECT", 0) if !extension.is_v6 => ports_only(info),
        ("REJECT", 0) => reject(extension),
        ("TCPMSS", 0) => Some(match short(info, 0)? {
            u16::MAX => " --clamp-mss-to-pmtu".to_owned(),
            size => format!(" --set-mss {size}"),
        }),
        _ => None,
    }
}

fn connection_mark(info: &[u8]) -> Option<String> {
    let [mark, connection_mask, packet_mask] = [long(info, 0)?, long(info, 4)?, long(info, 8)?];
    Some(match *info.get(12)? {
        0 => format!(" --set-xmark {}", masked(mark, connection_mask)),
        1 => format!(" --save-mark --nfmask {packet_mask:#x} --ctmask {connection_mask:#x}"),
        2 => format!(" --restore-mark --nfmask {packet_mask:#x} --ctmask {connection_mask:#x}"),
        _ => return None,
    })
}

/// `NF_NAT_RANGE_*`, `linux/netfilter/nf_nat.h`.
const ADDRESSES: u32 = 1;
const PORTS: u32 = 2;
/// What a range may have beside them; with another one it is not shown.
const WORDS: [(u32, &str); 3] = [(4, " --random"), (8, " --persistent"), (16, " --random-fully")];

/// A range of addresses and ports, each from and to.
struct Range {
    flags: u32,
    addresses: Option<(String, String)>,
    ports: (u16, u16),
    is_v6: bool,
}

impl Range {
    /// With the option's name where something is set.
    fn show(&self, option: &str) -> Option<String> {
        let known = WORDS.iter().fold(ADDRESSES | PORTS, |all, (bit, _)| all | bit);
        (self.flags & !known == 0).then_some(())?;
        let addresses = self.addresses.as_ref().filter(|_| self.flags & ADDRESSES != 0);
        let mut to = match addresses {
            Some((first, last)) if first == last => first.clone(),
            Some((first, last)) => format!("{first}-{last}"),
            None => String::new(),
        };
        if self.flags & PORTS != 0 {
            if self.is_v6 && !to.is_empty() {
                to = format!("[{to}]");
            }
            let (first, last) = self.ports;
            let last = if first == last { String::new() } else { format!("-{last}") };
            to = format!("{to}:{first}{last}");
        }
        let words: String =
            WORDS.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, word)| *word).collect();
        Some(if to.is_empty() { words } else { format!(" {option} {to}{words}") })
    }
}

fn option(name: &str) -> &'static str {
    if name == "SNAT" { "--to-source" } else { "--to-destination" }
}

fn port(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn v4(info: &[u8], at: usize) -> Option<String> {
    info.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).to_string())
}

fn v6(info: &[u8], at: usize) -> Option<String> {
    info.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).to_string())
}

/// `struct nf_nat_ipv4_multi_range_compat`, of which there is one range.
fn old_range(info: &[u8]) -> Option<Range> {
    (long(info, 0)? == 1).then_some(())?;
    Some(Range {
        flags: long(info, 4)?,
        addresses: Some((v4(info, 8)?, v4(info, 12)?)),
        ports: (port(info, 16)?, port(info, 18)?),
        is_v6: false,
    })
}

fn old_translation(extension: &Extension<'_>) -> Option<String> {
    old_range(extension.info)?.show(option(extension.name))
}

/// Masquerading and redirection choose the address themselves.
fn ports_only(info: &[u8]) -> Option<String> {
    old_range(info)?.show("--to-ports").map(|words| words.replacen(" :", " ", 1))
}

/// `struct nf_nat_range` and `struct nf_nat_range2`, which goes on from it.
fn translation(extension: &Extension<'_>) -> Option<String> {
    let (info, is_v6) = (extension.info, extension.is_v6);
    let address = if is_v6 { v6 } else { v4 };
    let range = Range {
        flags: long(info, 0)?,
        addresses: Some((address(info, 4)?, address(info, 20)?)),
        ports: (port(info, 36)?, port(info, 38)?),
        is_v6,
    };
    range.show(option(extension.name))
}

/// `enum ipt_reject_with` and `enum ip6t_reject_with`.
fn reject(extension: &Extension<'_>) -> Option<String> {
    const V4: [&str; 9] = [
        "icmp-net-unreachable",
        "icmp-host-unreachable",
        "icmp-proto-unreachable",
        "icmp-port-unreachable",
        "",
        "icmp-net-prohibited",
        "icmp-host-prohibited",
        "tcp-reset",
        "icmp-admin-prohibited",
    ];
    const V6: [&str; 9] = [
        "icmp6-no-route",
        "icmp6-adm-prohibited",
        "",
        "icmp6-addr-unreachable",
        "icmp6-port-unreachable",
        "",
        "tcp-reset",
        "icmp6-policy-fail",
        "icmp6-reject-route",
    ];
    let names = if extension.is_v6 { V6 } else { V4 };
    let name = names.get(long(extension.info, 0)? as usize).filter(|name| !name.is_empty())?;
    Some(format!(" --reject-with {name}"))
}
