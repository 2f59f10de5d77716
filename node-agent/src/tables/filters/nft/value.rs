//! Constants of rules: how bytes look depends on what they are compared with.

use super::super::super::words::{address, ip_protocol, link_address};

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An IPv4 address; fewer bytes: a prefix.
    V4,
    /// An IPv6 address; fewer bytes: a prefix.
    V6,
    /// A link-layer address.
    Link,
    /// A number in network byte order.
    Number,
    /// A number in the kernel's byte order.
    Host,
    /// A mark in the kernel's byte order.
    Mark,
    /// Name of an interface; without its end: a prefix of names.
    Name,
    /// Bits of states of connections.
    States,
    /// Protocol above IP.
    Protocol,
    /// `EtherType`.
    Ether,
    /// `NFPROTO_*`.
    Family,
    /// `RTN_*`.
    AddressType,
    /// In hex.
    Raw,
}

/// `NF_CT_STATE_*`, `linux/netfilter/nf_conntrack_common.h`.
const STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (1 << 6, "untracked")];
/// `RTN_*`, `linux/rtnetlink.h`, from 1 on.
const ADDRESS_TYPES: [&str; 8] =
    ["unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"];

impl Form {
    /// In hex, if they do not fit.
    pub(super) fn show(self, bytes: &[u8]) -> String {
        self.fitting(bytes).unwrap_or_else(|| hex(bytes))
    }

    fn fitting(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::V4 => prefix(bytes, 4),
            Self::V6 => prefix(bytes, 16),
            Self::Link => (!bytes.is_empty()).then(|| link_address(bytes)),
            Self::Number => number(bytes).map(|number| number.to_string()),
            Self::Host => host(bytes).map(|number| number.to_string()),
            Self::Mark => host(bytes).map(|number| format!("{number:#x}")),
            Self::Name => name(bytes),
            Self::States => states(host(bytes)? as u32),
            Self::Protocol => bytes.first().map(|number| ip_protocol(*number)),
            Self::Ether => match number(bytes)? {
                0x0800 => Some("ip".to_owned()),
                0x86dd => Some("ip6".to_owned()),
                0x0806 => Some("arp".to_owned()),
                0x8100 => Some("vlan".to_owned()),
                _ => None,
            },
            Self::Family => match bytes.first()? {
                2 => Some("ipv4".to_owned()),
                10 => Some("ipv6".to_owned()),
                _ => None,
            },
            Self::AddressType => {
                let place = usize::try_from(host(bytes)?).ok()?.checked_sub(1)?;
                ADDRESS_TYPES.get(place).map(ToString::to_string)
            }
            Self::Raw => None,
        }
    }

    /// The length of a mask that leaves the first bits of an address; absent: it is none.
    pub(super) fn prefix_length(self, mask: &[u8]) -> Option<u32> {
        if !matches!(self, Self::V4 | Self::V6) {
            return None;
        }
        let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
        let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        let is_prefix = mask.iter().skip_while(|byte| **byte == 0xff).skip(1).all(|byte| *byte == 0);
        (ones == set && is_prefix).then_some(ones)
    }
}

/// `0x0a00`.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn prefix(bytes: &[u8], whole: usize) -> Option<String> {
    if bytes.is_empty() || bytes.len() > whole {
        return None;
    }
    let mut all = bytes.to_vec();
    all.resize(whole, 0);
    let address = address(&all)?;
    Some(if bytes.len() == whole { address.to_string() } else { format!("{address}/{}", bytes.len() * 8) })
}

fn number(bytes: &[u8]) -> Option<u64> {
    let mut all = [0; 8];
    all.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    (!bytes.is_empty()).then_some(u64::from_be_bytes(all))
}

fn host(bytes: &[u8]) -> Option<u64> {
    Some(match bytes.len() {
        1 => u64::from(bytes[0]),
        2 => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
        4 => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
        8 => u64::from_ne_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

fn name(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()?;
    Some(if end.is_some() { text.to_owned() } else { format!("{text}*") })
}

/// Absent: there are others among them.
fn states(bits: u32) -> Option<String> {
    let known = STATES.iter().filter(|(bit, _)| bits & bit != 0);
    let all = known.clone().fold(0, |all, (bit, _)| all | bit);
    let names: Vec<&str> = known.map(|(_, name)| *name).collect();
    (all == bits && bits != 0).then(|| names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_what_they_are_or_in_hex() {
        for (form, bytes, shown) in [
            (Form::V4, &[10, 0, 0, 1][..], "10.0.0.1"),
            (Form::V4, &[10], "10.0.0.0/8"),
            (Form::V4, &[1, 2, 3, 4, 5], "0x0102030405"),
            (Form::V6, &[0xfd, 0], "fd00::/16"),
            (Form::Number, &[0, 53], "53"),
            (Form::Number, &[1; 9], "0x010101010101010101"),
            (Form::Number, &[], "0x"),
            (Form::Name, b"eth0\0\0\0", "eth0"),
            (Form::Name, b"cali", "cali*"),
            (Form::Name, b"\xff", "0xff"),
            (Form::Protocol, &[6], "tcp"),
            (Form::Ether, &[0x86, 0xdd], "ip6"),
            (Form::Ether, &[0x88, 0xcc], "0x88cc"),
            (Form::Family, &[2], "ipv4"),
            (Form::Link, &[2, 0, 0, 0, 0, 1], "02:00:00:00:00:01"),
        ] {
            assert_eq!(form.show(bytes), shown, "{form:?}");
        }
        assert_eq!(Form::States.show(&6_u32.to_ne_bytes()), "established,related");
        assert_eq!(Form::States.show(&0x10_u32.to_ne_bytes()), hex(&0x10_u32.to_ne_bytes()));
        assert_eq!(Form::Mark.show(&0x4000_u32.to_ne_bytes()), "0x4000");
        assert_eq!(Form::AddressType.show(&2_u32.to_ne_bytes()), "local");
        assert_eq!(Form::AddressType.show(&0_u32.to_ne_bytes()), hex(&[0; 4]));
    }

    #[test]
    fn a_mask_is_a_prefix_or_not() {
        for (mask, length) in [
            ([255, 255, 254, 0], Some(23)),
            ([255; 4], Some(32)),
            ([0; 4], Some(0)),
            ([255, 0, 255, 0], None),
            ([255, 0, 0, 1], None),
            ([0, 255, 0, 0], None),
        ] {
            assert_eq!(Form::V4.prefix_length(&mask), length, "{mask:?}");
        }
        assert_eq!(Form::Number.prefix_length(&[255, 0]), None);
    }
}
