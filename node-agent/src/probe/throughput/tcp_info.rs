//! What the kernel knows of a connection (tcp(7), `TCP_INFO`).
#![allow(unsafe_code)] // No crate reads the whole of it.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// What a sender wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// Bytes that the other end acknowledged, the one of SYN too. 0 of kernels before 4.1.
    pub(super) acknowledged: u64,
    /// Segments that were sent again.
    pub(super) retransmits: u64,
    /// Mean round trip.
    pub(super) rtt: Duration,
}

/// Of a socket of TCP.
pub(super) fn read(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    // SAFETY: the structure is of integers alone, for which zeros are values: what an older kernel does not know stays 0.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and how many it wrote to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpInfo {
        acknowledged: info.tcpi_bytes_acked,
        retransmits: info.tcpi_total_retrans.into(),
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
    })
}
