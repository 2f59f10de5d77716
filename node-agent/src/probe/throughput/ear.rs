//! The receiver's socket of datagrams: each with the kernel's time, and what the socket had no room for.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimestampns, RxqOvfl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::clock;
use crate::probe::datagrams::kernel_nanos;

/// Of the socket: a tenth of a second at 300 Mbit/s.
const BUFFER_BYTES: usize = 4 << 20;
/// What waits longer than that was not stamped by a clock that still goes alike.
const WAITING_NANOS: i64 = 1_000_000_000;

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Bytes of it.
    pub(super) length: usize,
    /// Whence.
    pub(super) from: SocketAddr,
    /// When, nanoseconds on `CLOCK_MONOTONIC`.
    pub(super) nanos: i64,
}

/// The socket. It belongs to the network namespace of the thread that opens it.
pub(super) struct Ear {
    socket: UdpSocket,
    /// For what the kernel says beside a datagram.
    space: Vec<u8>,
    overflowed: u32,
}

impl Ear {
    /// On this address alone.
    pub(super) fn open(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking().cloexec(), None)?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        // Beyond net.core.rmem_max with NET_ADMIN alone.
        if setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, RcvBuf, &BUFFER_BYTES)?;
        }
        socket.bind(&at.into())?;
        let space = cmsg_space!(TimeSpec, u32);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, space, overflowed: 0 })
    }

    /// The next one.
    pub(super) async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Heard> {
        let Self { socket, space, overflowed } = self;
        let receive = || receive(socket, space, overflowed, buffer).map_err(io::Error::from);
        socket.async_io(Interest::READABLE, receive).await
    }

    /// Answers, if it can be done now: who hears nothing calls again.
    pub(super) fn reply(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.try_send_to(bytes, to) {
            tracing::debug!(%to, %error, "an answer of a throughput could not be sent");
        }
    }

    /// Datagrams that it had no room for, as far as it was said beside those that came later.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.into()
    }
}

fn receive(
    socket: &UdpSocket,
    space: &mut [u8],
    overflowed: &mut u32,
    buffer: &mut [u8],
) -> Result<Heard, Errno> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(space), MsgFlags::empty())?;
    let now = clock::monotonic_nanos();
    let mut waited = 0;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmTimestampns(at) => {
                waited = kernel_nanos().saturating_sub(at.tv_sec() * 1_000_000_000 + at.tv_nsec());
            }
            ControlMessageOwned::RxqOvfl(count) => *overflowed = count,
            _ => {}
        }
    }
    let from = message.address.as_ref().and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| SocketAddr::from((from.ip(), from.port())));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| (from.ip(), from.port()).into()))
    });
    let from = from.ok_or(Errno::EAFNOSUPPORT)?;
    Ok(Heard { length: message.bytes, from, nanos: now - waited.clamp(0, WAITING_NANOS) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_socket_has_no_room_for_is_counted() {
        const SENT: usize = 12_000;
        let mut ear = Ear::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = ear.socket.local_addr().unwrap();
        let mouth = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 2_048];
        for _ in 0..SENT {
            mouth.send_to(&[0; 1_232], to).unwrap();
        }
        let mut heard = 0;
        while let Ok(Ok(datagram)) =
            tokio::time::timeout(std::time::Duration::from_millis(100), ear.next(&mut buffer)).await
        {
            assert_eq!((datagram.length, datagram.from), (1_232, mouth.local_addr().unwrap()));
            heard += 1;
        }
        assert!(heard < SENT, "they all had room");
        mouth.send_to(b"the next one says it", to).unwrap();
        let before = clock::monotonic_nanos();
        let last = ear.next(&mut buffer).await.unwrap();
        assert_eq!((ear.overflowed() as usize, last.length), (SENT - heard, 20));
        assert!((before - last.nanos).abs() < WAITING_NANOS, "{last:?}");
    }
}
