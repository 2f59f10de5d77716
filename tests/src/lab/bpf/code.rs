//! Instructions of the lab's programs (RFC 9669), eight bytes each.

use std::os::fd::{AsRawFd, OwnedFd};

use super::call::Kind;

/// A field of a frame, by its offset from the Ethernet header, and what it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// One byte.
    Byte(u16, u8),
    /// Two bytes.
    Half(u16, [u8; 2]),
    /// Four bytes.
    Word(u16, [u8; 4]),
}

/// What befalls a packet that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A share of them is dropped, 1 to 100 percent, before the interface's capture tap.
    Drop {
        /// The share.
        percent: u8,
    },
    /// It goes on to the other end of the veth pair of which this is one end, past both ends' way of sending.
    ToPeerOf {
        /// Index of that end.
        index: u32,
    },
    /// It leaves by an interface, to the next hop that the routes name there, past the stack between.
    OutOf {
        /// Index of that interface.
        index: u32,
    },
}

impl Strike {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Drop { .. } => Kind::Xdp,
            Self::ToPeerOf { .. } | Self::OutOf { .. } => Kind::Ingress,
        }
    }
}

impl Field {
    /// Offset and width in bytes, and the value as a little-endian machine loads it.
    fn parts(self) -> (u16, u16, u32) {
        match self {
            Self::Byte(at, value) => (at, 1, value.into()),
            Self::Half(at, value) => (at, 2, u16::from_ne_bytes(value).into()),
            Self::Word(at, value) => (at, 4, u32::from_ne_bytes(value)),
        }
    }
}

/// Register numbers: 0 takes results, 1 to 5 arguments, 6 to 9 outlive calls, 10 is the frame.
type Register = u8;
const CONTEXT: Register = 6;
const DATA: Register = 7;
const FRAME: Register = 10;

// Helper functions, `___BPF_FUNC_MAPPER`.
const MAP_LOOKUP: i32 = 1;
const RANDOM: i32 = 7;
const LOAD_BYTES: i32 = 26;
const REDIRECT_NEIGHBOR: i32 = 152;
const REDIRECT_PEER: i32 = 155;

// `enum xdp_action` and `enum tcx_action_base`.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const TCX_NEXT: i32 = -1;

// Opcodes.
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const ADD_IMMEDIATE: u8 = 0x07;
const MODULO_IMMEDIATE: u8 = 0x97;
const LOAD_BYTE: u8 = 0x71;
const LOAD_HALF: u8 = 0x69;
const LOAD_WORD: u8 = 0x61;
const STORE_WORD_IMMEDIATE: u8 = 0x62;
const ATOMIC_ADD: u8 = 0xdb;
const LOAD_WIDE: u8 = 0x18;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL_32: u8 = 0x56;
const JUMP_IF_ABOVE: u8 = 0x2d;
const JUMP_IF_AT_LEAST_IMMEDIATE: u8 = 0x35;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In the source register of [`LOAD_WIDE`]: the number is a map's descriptor.
const PSEUDO_MAP: Register = 1;

/// Instructions, of which some still jump to the end of the program.
#[derive(Default)]
struct Program {
    code: Vec<u64>,
    leaving: Vec<usize>,
}

impl Program {
    fn add(&mut self, opcode: u8, target: Register, source: Register, offset: i16, immediate: i32) {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = immediate.to_le_bytes();
        self.code.push(u64::from_le_bytes([opcode, source << 4 | target, low, high, a, b, c, d]));
    }

    fn call(&mut self, helper: i32) {
        self.add(CALL, 0, 0, 0, helper);
    }

    /// A jump to where packets pass on.
    fn leave(&mut self, opcode: u8, target: Register, source: Register, immediate: i32) {
        self.leaving.push(self.code.len());
        self.add(opcode, target, source, 0, immediate);
    }

    /// What is left when nothing has struck: `result`.
    fn finish(mut self, result: i32) -> Vec<u64> {
        let end = self.code.len();
        for at in std::mem::take(&mut self.leaving) {
            self.code[at] |= (((end - at - 1) as u64) & 0xffff) << 16;
        }
        self.add(MOVE_IMMEDIATE, 0, 0, 0, result);
        self.add(EXIT, 0, 0, 0, 0);
        self.code
    }

    /// Adds one to the counter.
    fn count(&mut self, counter: &OwnedFd) {
        self.add(STORE_WORD_IMMEDIATE, FRAME, 0, -4, 0);
        self.add(MOVE, 2, FRAME, 0, 0);
        self.add(ADD_IMMEDIATE, 2, 0, 0, -4);
        self.add(LOAD_WIDE, 1, PSEUDO_MAP, 0, counter.as_raw_fd());
        self.add(0, 0, 0, 0, 0);
        self.call(MAP_LOOKUP);
        self.leave(JUMP_IF_EQUAL, 0, 0, 0);
        self.add(MOVE_IMMEDIATE, 1, 0, 0, 1);
        self.add(ATOMIC_ADD, 0, 1, 0, 0);
    }

    /// Passes on what `fields` do not describe, reading the packet in place.
    fn compare_in_place(&mut self, fields: &[Field]) {
        let end = fields.iter().map(|field| field.parts()).map(|(at, width, _)| at + width).max();
        self.add(LOAD_WORD, DATA, CONTEXT, 0, 0);
        self.add(LOAD_WORD, 3, CONTEXT, 4, 0);
        self.add(MOVE, 4, DATA, 0, 0);
        self.add(ADD_IMMEDIATE, 4, 0, 0, end.unwrap_or(0).into());
        self.leave(JUMP_IF_ABOVE, 4, 3, 0);
        for field in fields {
            self.compare(*field, DATA, field.parts().0 as i16);
        }
    }

    /// The same by copies of the fields, wherever in the packet they are.
    fn compare_copies(&mut self, fields: &[Field]) {
        for field in fields {
            let (at, width, _) = field.parts();
            self.add(MOVE, 1, CONTEXT, 0, 0);
            self.add(MOVE_IMMEDIATE, 2, 0, 0, at.into());
            self.add(MOVE, 3, FRAME, 0, 0);
            self.add(ADD_IMMEDIATE, 3, 0, 0, -8);
            self.add(MOVE_IMMEDIATE, 4, 0, 0, width.into());
            self.call(LOAD_BYTES);
            self.leave(JUMP_IF_NOT_EQUAL_32, 0, 0, 0);
            self.compare(*field, FRAME, -8);
        }
    }

    /// Calls a helper whose result is what becomes of the packet.
    fn redirect(&mut self, helper: i32, arguments: [i32; 4]) {
        for (register, argument) in (1..).zip(arguments) {
            self.add(MOVE_IMMEDIATE, register, 0, 0, argument);
        }
        self.call(helper);
        self.add(EXIT, 0, 0, 0, 0);
    }

    fn compare(&mut self, field: Field, base: Register, offset: i16) {
        let (_, width, value) = field.parts();
        let load = match width {
            1 => LOAD_BYTE,
            2 => LOAD_HALF,
            _ => LOAD_WORD,
        };
        self.add(load, 5, base, offset, 0);
        self.leave(JUMP_IF_NOT_EQUAL_32, 5, 0, value as i32);
    }
}

/// The program that strikes what `fields` describe.
pub(super) fn assemble(fields: &[Field], strike: Strike, counter: &OwnedFd) -> Vec<u64> {
    let mut program = Program::default();
    program.add(MOVE, CONTEXT, 1, 0, 0);
    match strike {
        Strike::Drop { percent } => {
            program.compare_in_place(fields);
            program.call(RANDOM);
            program.add(MODULO_IMMEDIATE, 0, 0, 0, 100);
            program.leave(JUMP_IF_AT_LEAST_IMMEDIATE, 0, 0, percent.into());
            program.count(counter);
            program.add(MOVE_IMMEDIATE, 0, 0, 0, XDP_DROP);
            program.add(EXIT, 0, 0, 0, 0);
            program.finish(XDP_PASS)
        }
        Strike::ToPeerOf { index } => {
            program.compare_copies(fields);
            program.count(counter);
            program.redirect(REDIRECT_PEER, [index as i32, 0, 0, 0]);
            program.finish(TCX_NEXT)
        }
        Strike::OutOf { index } => {
            program.compare_copies(fields);
            program.count(counter);
            program.redirect(REDIRECT_NEIGHBOR, [index as i32, 0, 0, 0]);
            program.finish(TCX_NEXT)
        }
    }
}
