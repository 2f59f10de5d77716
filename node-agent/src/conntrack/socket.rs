//! Sockets to `ctnetlink`.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::Translation;
use super::message::{self, Said};

/// `NFNLGRP_CONNTRACK_NEW`.
const NEW_CONNECTIONS: u32 = 1;
/// What the kernel may queue: some ten thousand events.
const QUEUE_BYTES: usize = 8 << 20;
/// The kernel's datagrams are no longer (`NLMSG_GOODSIZE`, and 32 KiB for lists).
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams of one list; of more the kernel would have more connections than it can.
const LIST_DATAGRAMS: usize = 1 << 20;

/// Events of new connections, read without waiting.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
    overruns: u64,
    broken: Option<String>,
}

impl Events {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_rx_buf_sz(QUEUE_BYTES)?;
        socket.add_membership(NEW_CONNECTIONS)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM_BYTES), overruns: 0, broken: None })
    }

    /// Hands over every connection that was told since.
    pub(super) fn read(&mut self, translated: &mut impl FnMut(Translation)) {
        while self.broken.is_none() {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => message::read(&self.buffer, &mut |said| {
                    if let Said::Translated(translation) = said {
                        translated(translation);
                    }
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.overruns += 1,
                Err(error) => self.broken = Some(error.to_string()),
            }
        }
    }

    /// Why connections may be missing.
    pub(super) fn trouble(&self) -> Option<String> {
        let overrun = || {
            format!(
                "connection tracking told of more connections than could be read, {} times",
                self.overruns
            )
        };
        let broken = self
            .broken
            .as_ref()
            .map(|reason| format!("connection tracking could no longer be read: {reason}"));
        broken.or_else(|| (self.overruns > 0).then(overrun))
    }
}

/// Hands over every connection there is.
pub(super) fn list(translated: &mut impl FnMut(Translation)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message::request(), 0)?;
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
    for _ in 0..LIST_DATAGRAMS {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut end = None;
        message::read(&buffer, &mut |said| match said {
            Said::Translated(translation) => translated(translation),
            Said::Done => end = Some(Ok(())),
            Said::Refused(code) => end = Some(Err(io::Error::from_raw_os_error(code))),
            Said::Nothing => {}
        });
        if let Some(end) = end {
            return end;
        }
    }
    Err(io::Error::other("the list of connections does not end"))
}
