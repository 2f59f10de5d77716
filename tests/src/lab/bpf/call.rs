//! The `bpf(2)` system call: the few commands the lab needs, with the leading members of their attributes
//! (`union bpf_attr`, `include/uapi/linux/bpf.h`).
#![allow(unsafe_code)] // bpf(2) has no safe interface.

use std::ffi::c_long;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `enum bpf_cmd`.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    ProgramLoad = 5,
    LinkCreate = 28,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Generic XDP: on the socket buffer, in front of the taps.
    Xdp,
    /// The ingress hook of traffic control, behind the taps.
    Ingress,
}

impl Kind {
    /// `enum bpf_prog_type`.
    fn program_type(self) -> u32 {
        match self {
            Self::Ingress => 3,
            Self::Xdp => 6,
        }
    }

    /// `enum bpf_attach_type`.
    fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::Ingress => 46,
        }
    }

    /// Flags of the link: `XDP_FLAGS_SKB_MODE`, or none.
    fn flags(self) -> u32 {
        match self {
            Self::Xdp => 1 << 1,
            Self::Ingress => 0,
        }
    }
}

const MAP_TYPE_ARRAY: u32 = 2;
const KEY_BYTES: u32 = 4;
const VALUE_BYTES: u32 = 8;
/// The helpers in use are free to all.
const LICENSE: &[u8; 4] = b"GPL\0";

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapLookup {
    map_fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// An array of one 64-bit number.
pub(super) fn make_counter() -> Result<OwnedFd> {
    let (key_size, value_size) = (KEY_BYTES, VALUE_BYTES);
    owned(Command::MapCreate, &MapCreate { map_type: MAP_TYPE_ARRAY, key_size, value_size, max_entries: 1 })
}

pub(super) fn read_counter(map: &OwnedFd) -> Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let (key, into) = ((&raw const key) as u64, (&raw mut value) as u64);
    call(Command::MapLookup, &MapLookup { map_fd: descriptor(map).into(), key, value: into, flags: 0 })?;
    // SAFETY: the kernel wrote the number; reading it anew keeps the compiler from knowing better.
    Ok(unsafe { std::ptr::read_volatile(&raw const value) })
}

/// Loads instructions; where the kernel refuses them, its log is the error.
pub(super) fn load(kind: Kind, code: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0_u8; 1 << 16];
    let attributes = ProgramLoad {
        program_type: kind.program_type(),
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
    };
    owned(Command::ProgramLoad, &attributes).map_err(|error| {
        let said = String::from_utf8_lossy(&log);
        Error::new(error.kind(), format!("{error}: {}", said.trim_end_matches('\0')))
    })
}

/// Attaches a program to the interface `index` of the calling thread's namespace.
pub(super) fn attach(kind: Kind, program: &OwnedFd, index: u32) -> Result<OwnedFd> {
    let (attach_type, flags) = (kind.attach_type(), kind.flags());
    owned(
        Command::LinkCreate,
        &LinkCreate { program: descriptor(program), target: index, attach_type, flags },
    )
}

fn descriptor(of: &OwnedFd) -> u32 {
    of.as_raw_fd() as u32
}

fn owned<T>(command: Command, attributes: &T) -> Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

fn call<T>(command: Command, attributes: &T) -> Result<c_long> {
    // SAFETY: `attributes` is valid for its size, and every address in it for the length said beside it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as c_long, &raw const *attributes, size_of::<T>() as c_long)
    };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}
