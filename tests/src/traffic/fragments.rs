//! Sockets whose packets may not be fragmented.

#![allow(unsafe_code, reason = "no crate in use has this socket option")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Sets `IP_MTU_DISCOVER` to `IP_PMTUDISC_DO`.
pub(super) fn forbid(socket: &UdpSocket) -> io::Result<()> {
    let value = libc::IP_PMTUDISC_DO;
    // SAFETY: the kernel reads the four bytes of `value`, which live through the call, and keeps no pointer.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
