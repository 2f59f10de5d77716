//! What `getsockopt` tells of a table.
#![allow(unsafe_code)] // getsockopt of netfilter's own structures has no safe interface.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use super::Family;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, and `IP6T_SO_GET_INFO` and `IP6T_SO_GET_ENTRIES`, which are the same.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME_BYTES: usize = 32;
/// `struct ipt_getinfo`, and where what follows the name is in it.
const INFO_BYTES: usize = 84;
const HOOK_ENTRIES: usize = 36;
const UNDERFLOWS: usize = 56;
const COUNT: usize = 76;
const BYTES: usize = 80;
/// `struct ipt_get_entries` up to its entries.
const ENTRIES: usize = 40;

/// Hooks of netfilter, `NF_INET_NUMHOOKS`.
pub(super) const HOOKS: usize = 5;

/// Where the chains of a table begin that hooks lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Bits of the hooks.
    pub(super) hooks: u32,
    /// Offset of the first rule of each.
    pub(super) begins: [u32; HOOKS],
    /// Offset of the policy of each.
    pub(super) policies: [u32; HOOKS],
    /// Rules, and what marks chains.
    pub(super) entries: u32,
    pub(super) bytes: u32,
}

/// Of a table that this thread's namespace has.
pub(super) fn info(family: Family, table: &str) -> io::Result<Info> {
    let mut buffer = named(table, INFO_BYTES)?;
    get(family, GET_INFO, &mut buffer)?;
    let long = |at: usize| u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
    Ok(Info {
        hooks: long(NAME_BYTES),
        begins: std::array::from_fn(|hook| long(HOOK_ENTRIES + 4 * hook)),
        policies: std::array::from_fn(|hook| long(UNDERFLOWS + 4 * hook)),
        entries: long(COUNT),
        bytes: long(BYTES),
    })
}

/// All entries, which are so many bytes.
pub(super) fn entries(family: Family, table: &str, bytes: u32) -> io::Result<Vec<u8>> {
    let mut buffer = named(table, ENTRIES + bytes as usize)?;
    buffer[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&bytes.to_ne_bytes());
    let length = get(family, GET_ENTRIES, &mut buffer)?;
    buffer.truncate(length);
    buffer.drain(..ENTRIES.min(length));
    Ok(buffer)
}

/// A structure that begins with the name of a table.
fn named(table: &str, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let name = buffer.get_mut(..table.len()).filter(|_| table.len() < NAME_BYTES);
    name.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(table.as_bytes());
    Ok(buffer)
}

/// Fills the buffer and returns how much of it.
fn get(family: Family, option: libc::c_int, buffer: &mut [u8]) -> io::Result<usize> {
    let (level, any) = match family {
        Family::V4 => (libc::IPPROTO_IP, "0.0.0.0:0"),
        Family::V6 => (libc::IPPROTO_IPV6, "[::]:0"),
    };
    // Any socket of the family leads there.
    let socket = UdpSocket::bind(any)?;
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel writes to no more than `length` bytes from the beginning of the buffer.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    if done == 0 { Ok((length as usize).min(buffer.len())) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_with_its_end() {
        assert_eq!(named("nat", INFO_BYTES).unwrap()[..4], *b"nat\0");
        assert!(named(&"n".repeat(NAME_BYTES - 1), INFO_BYTES).is_ok());
        assert!(named(&"n".repeat(NAME_BYTES), INFO_BYTES).is_err());
    }
}
