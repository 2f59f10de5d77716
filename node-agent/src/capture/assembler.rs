//! Classic BPF with names for the places that jumps go to.

/// One instruction of `struct sock_filter`, `include/uapi/linux/filter.h`.
pub(crate) type Instruction = libc::sock_filter;

/// Operations, `include/uapi/linux/bpf_common.h`.
pub(super) const LD_LENGTH: u16 = 0x80;
pub(super) const LDH_ABS: u16 = 0x28;
pub(super) const LDB_ABS: u16 = 0x30;
pub(super) const LDH_IND: u16 = 0x48;
pub(super) const LDB_IND: u16 = 0x50;
pub(super) const LDX_IMM: u16 = 0x01;
pub(super) const AND: u16 = 0x54;
pub(super) const SHIFT_LEFT: u16 = 0x64;
pub(super) const TO_X: u16 = 0x07;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const RET: u16 = 0x06;

/// A line of an unfinished program.
#[derive(Clone, Copy)]
pub(super) enum Step<L> {
    /// A place to jump to.
    At(L),
    /// Operation, operand.
    Do(u16, u32),
    /// Operation, operand, target if true, target if false.
    If(u16, u32, L, L),
}

/// The program, with every jump to a label turned into a distance. A label that is nowhere is the next instruction.
pub(super) fn assemble<L: Copy + PartialEq>(steps: &[Step<L>]) -> Vec<Instruction> {
    let is_code = |step: &&Step<L>| !matches!(step, Step::At(_));
    let distance = |label: L, here: usize| -> u8 {
        let Some(position) = steps.iter().position(|s| matches!(s, Step::At(at) if *at == label)) else {
            return 0;
        };
        (steps[..position].iter().filter(is_code).count() - here - 1) as u8
    };
    let mut code = Vec::new();
    for step in steps {
        let here = code.len();
        let target = |label| distance(label, here);
        match *step {
            Step::At(_) => {}
            Step::Do(operation, k) => code.push(Instruction { code: operation, jt: 0, jf: 0, k }),
            Step::If(operation, k, yes, no) => {
                code.push(Instruction { code: operation, jt: target(yes), jf: target(no), k });
            }
        }
    }
    code
}
