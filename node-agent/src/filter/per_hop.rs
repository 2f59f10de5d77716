//! Terms whose answer can change from hop to hop: a packet that matches at one point and not at the next looks lost.
//!
//! Raw accesses are judged by their text, which says what field is meant. What has no field is found in the compiled
//! program, whatever its spelling. Instruction codes: `include/uapi/linux/bpf_common.h`.

use pcap::{BpfInstruction, BpfProgram};

use super::{accessors, fields};

const CLASS: u16 = 0x07;
const MODE: u16 = 0xe0;
/// `BPF_LD` and `BPF_LDX`.
const LOADS: [u16; 2] = [0, 1];
const LENGTH: u16 = 0x80;
const ABSOLUTE: u16 = 0x20;
/// `SKF_AD_OFF`, `include/uapi/linux/filter.h`: loads from here on ask for what no packet carries.
const ANCILLARY: u32 = 0xffff_f000;

/// The first term of `expression`, compiled to `program`, that can change on the way.
pub(super) fn find(expression: &str, program: &BpfProgram) -> Option<String> {
    let in_text = accessors::find(expression).iter().find_map(fields::changing);
    in_text.or_else(|| {
        let mut instructions = program.get_instructions().iter().filter_map(parts);
        instructions.find_map(|(code, operand)| changing(code, operand)).map(str::to_owned)
    })
}

/// Code and operand. The crate shows them only as text: code, both jumps, operand.
fn parts(instruction: &BpfInstruction) -> Option<(u16, u32)> {
    let text = instruction.to_string();
    let mut numbers = text.split(' ');
    Some((numbers.next()?.parse().ok()?, numbers.nth(2)?.parse().ok()?))
}

fn changing(code: u16, operand: u32) -> Option<&'static str> {
    match code & MODE {
        _ if !LOADS.contains(&(code & CLASS)) => None,
        LENGTH => Some("the packet length (less, greater, len)"),
        ABSOLUTE if operand >= ANCILLARY => Some("the interface or direction (inbound, outbound, ifindex)"),
        _ => None,
    }
}
