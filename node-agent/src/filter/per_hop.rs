//! Terms whose answer changes from hop to hop: a packet that matches at one point and not at the next looks lost.
//!
//! They are found in the compiled program, whatever their spelling. Instruction codes: `include/uapi/linux/bpf_common.h`.

use pcap::{BpfInstruction, BpfProgram};

const CLASS: u16 = 0x07;
const SIZE: u16 = 0x18;
const MODE: u16 = 0xe0;
/// `BPF_LD` and `BPF_LDX`.
const LOADS: [u16; 2] = [0, 1];
const LENGTH: u16 = 0x80;
const ABSOLUTE: u16 = 0x20;
const INDIRECT: u16 = 0x40;

/// The first term of `program`, compiled for packets that start with the IP header, that changes on the way.
pub(super) fn find(program: &BpfProgram) -> Option<&'static str> {
    program.get_instructions().iter().filter_map(parts).find_map(|(code, k)| changing(code, k))
}

/// Code and operand. The crate shows them only as text: code, both jumps, operand.
fn parts(instruction: &BpfInstruction) -> Option<(u16, u32)> {
    let text = instruction.to_string();
    let mut numbers = text.split(' ');
    Some((numbers.next()?.parse().ok()?, numbers.nth(2)?.parse().ok()?))
}

fn changing(code: u16, offset: u32) -> Option<&'static str> {
    let size = match code & SIZE {
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    };
    let touches = |byte: u32| (offset..offset.saturating_add(size)).contains(&byte);
    match code & MODE {
        _ if !LOADS.contains(&(code & CLASS)) => None,
        LENGTH => Some("the packet length (less, greater, len)"),
        ABSOLUTE => in_header(size, offset, touches),
        INDIRECT if touches(13) => Some("the TCP flags (byte 13 of the transport header)"),
        _ => None,
    }
}

/// IPv4 and IPv6 share offsets: words from byte 8 on are also how addresses are compared, and the half-word at 6 is how
/// fragments are told.
fn in_header(size: u32, offset: u32, touches: impl Fn(u32) -> bool) -> Option<&'static str> {
    let is_address = size == 4 && offset.is_multiple_of(4) && offset >= 8;
    let is_fragment = size == 2 && offset == 6;
    match () {
        () if is_address || is_fragment => None,
        () if touches(1) => Some("the TOS or traffic class (byte 1 of the IP header)"),
        () if touches(7) => Some("the IPv6 hop limit (byte 7 of the IP header)"),
        () if touches(8) => Some("the TTL (byte 8 of the IP header)"),
        () if touches(10) || touches(11) => Some("the header checksum (bytes 10 and 11 of the IP header)"),
        () if touches(53) => Some("the TCP flags (byte 53 of an IPv6 packet)"),
        () => None,
    }
}
