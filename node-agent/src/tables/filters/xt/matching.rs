//! Matches, each with the structure of its header in `linux/netfilter/`.

use super::{Extension, long, short};

/// What comes after the name, with a blank before it; absent: it is not known.
pub(super) fn options(extension: &Extension<'_>) -> Option<String> {
    let info = extension.info;
    match (extension.name, extension.revision) {
        ("tcp", 0) => tcp(info),
        ("udp", 0) => {
            let invert = *info.get(8)?;
            Some(ports("--sport", info, 0, invert & 1)? + &ports("--dport", info, 4, invert & 2)?)
        }
        ("mark", 1) => {
            let (mark, mask) = (long(info, 0)?, long(info, 4)?);
            Some(format!("{} --mark {}", not(*info.get(8)?), masked(mark, mask)))
        }
        ("state", 0) => Some(format!(" --state {}", states(long(info, 0)?)?)),
        ("conntrack", 3) => connection(info),
        ("statistic", 0) => statistic(info),
        ("addrtype", 1) => address_types(info),
        ("multiport", 1) => several_ports(info),
        _ => None,
    }
}

fn not(invert: u8) -> &'static str {
    if invert == 0 { "" } else { " !" }
}

/// `0x4000/0xc000`, without a mask that takes all bits.
pub(super) fn masked(mark: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{mark:#x}") } else { format!("{mark:#x}/{mask:#x}") }
}

/// Empty: all of them.
fn ports(option: &str, info: &[u8], at: usize, invert: u8) -> Option<String> {
    Some(match (short(info, at)?, short(info, at + 2)?) {
        (0, u16::MAX) if invert == 0 => String::new(),
        (first, last) if first == last => format!("{} {option} {first}", not(invert)),
        (first, last) => format!("{} {option} {first}:{last}", not(invert)),
    })
}

/// `struct xt_tcp`.
fn tcp(info: &[u8]) -> Option<String> {
    const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let [option, mask, set, invert] = *info.get(8..)?.first_chunk()?;
    let flags = |bits: u8| {
        let names = FLAGS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name);
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "NONE".to_owned() } else { names.join(",") }
    };
    let flags = match mask {
        0 => String::new(),
        mask => format!("{} --tcp-flags {} {}", not(invert & 4), flags(mask), flags(set)),
    };
    let option = match option {
        0 => String::new(),
        option => format!("{} --tcp-option {option}", not(invert & 8)),
    };
    let ports = [ports("--sport", info, 0, invert & 1)?, ports("--dport", info, 4, invert & 2)?];
    Some([ports.concat(), flags, option].concat())
}

/// Bits of `XT_CONNTRACK_STATE_*`.
fn states(bits: u32) -> Option<String> {
    const STATES: [(u32, &str); 7] = [
        (1, "INVALID"),
        (1 << 1, "ESTABLISHED"),
        (1 << 2, "RELATED"),
        (1 << 3, "NEW"),
        (1 << 6, "SNAT"),
        (1 << 7, "DNAT"),
        (1 << 8, "UNTRACKED"),
    ];
    let known = STATES.iter().filter(|(bit, _)| bits & bit != 0);
    let all = known.clone().fold(0, |all, (bit, _)| all | bit);
    let names: Vec<&str> = known.map(|(_, name)| *name).collect();
    (all == bits).then(|| names.join(","))
}

/// `struct xt_conntrack_mtinfo3`, where nothing but states is looked at.
fn connection(info: &[u8]) -> Option<String> {
    /// `XT_CONNTRACK_STATE`.
    const STATE: u16 = 1;
    let (looks_at, inverts, bits) = (short(info, 146)?, short(info, 148)?, short(info, 150)?);
    (looks_at == STATE).then_some(())?;
    Some(format!("{} --ctstate {}", not((inverts & STATE) as u8), states(bits.into())?))
}

/// `struct xt_statistic_info`: at random, or every so many.
fn statistic(info: &[u8]) -> Option<String> {
    let (mode, invert) = (short(info, 0)?, (short(info, 2)? & 1) as u8);
    Some(match mode {
        0 => {
            let share = f64::from(long(info, 4)?) / f64::from(1_u32 << 31);
            format!("{} --mode random --probability {share:.5}", not(invert))
        }
        1 => {
            let (every, first) = (u64::from(long(info, 4)?) + 1, long(info, 8)?);
            format!("{} --mode nth --every {every} --packet {first}", not(invert))
        }
        _ => return None,
    })
}

/// `struct xt_addrtype_info_v1`.
fn address_types(info: &[u8]) -> Option<String> {
    const TYPES: [&str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    let flags = long(info, 4)?;
    let side = |at, option, invert: u32| {
        let bits = short(info, at)?;
        let names = TYPES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name);
        let names = names.collect::<Vec<_>>().join(",");
        let not = not((flags & invert != 0).into());
        Some(if bits == 0 { String::new() } else { format!("{not} {option} {names}") })
    };
    let limits = [(4, " --limit-iface-in"), (8, " --limit-iface-out")];
    let limits: String = limits.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    Some(side(0, "--src-type", 1)? + &side(2, "--dst-type", 2)? + &limits)
}

/// `struct xt_multiport_v1`.
fn several_ports(info: &[u8]) -> Option<String> {
    const MOST: usize = 15;
    let (side, count) = (*info.first()?, usize::from(*info.get(1)?));
    let option = *["--sports", "--dports", "--ports"].get(usize::from(side))?;
    // Ports, then of each whether a range begins with it, then whether all of it is inverted.
    let (begins, invert) = (info.get(2 + 2 * MOST..2 + 3 * MOST)?, *info.get(2 + 3 * MOST)?);
    let mut text = String::new();
    for at in 0..count.min(MOST) {
        let between = match at.checked_sub(1).map(|before| begins[before]) {
            None => "",
            Some(0) => ",",
            Some(_) => ":",
        };
        text = format!("{text}{between}{}", short(info, 2 + 2 * at)?);
    }
    Some(format!("{} {option} {text}", not(invert)))
}
