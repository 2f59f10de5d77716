//! A connected socket of datagrams that also hears what routers say about them, each with the kernel's time.
#![allow(unsafe_code)] // tokio cannot know that a descriptor stays the same one as long as it is registered.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6DontFrag, Ipv6RecvErr, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Errors of the call; every other one an ICMP message left on the socket, and the message itself says more.
const OWN: [Errno; 5] = [Errno::EBADF, Errno::ENOTSOCK, Errno::EINVAL, Errno::EFAULT, Errno::ENOMEM];

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A datagram of the other end.
    Datagram,
    /// An ICMP error; the bytes are those it quotes.
    Error {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Who sent it.
        from: Option<IpAddr>,
        /// Of one that is too large: what the next link takes, as RFC 1191 §4 and RFC 4443 §3.2 have it. 0: unknown.
        next_mtu: u32,
    },
}

/// Something came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// What.
    pub(super) heard: Heard,
    /// Bytes of it.
    pub(super) length: usize,
    /// When, in nanoseconds on the kernel's `CLOCK_REALTIME`.
    pub(super) stamp: Option<i64>,
}

/// The socket. It belongs to the network namespace of the thread that opens it.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: AsyncFd<Socket>,
}

impl Datagrams {
    /// To one address. `protocol` only where the kernel does not choose it by the type.
    pub(super) fn open(kind: Type, protocol: Option<Protocol>, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), kind.nonblocking().cloexec(), protocol)?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        if to.is_ipv4() {
            setsockopt(&socket, Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, Ipv6RecvErr, &true)?;
        }
        socket.connect(&to.into())?;
        // SAFETY: the socket owns its descriptor, and `AsyncFd` the socket; nothing here puts another one in its place.
        let socket =
            unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::ERROR) }?;
        Ok(Self { socket })
    }

    /// Whether datagrams may be fragmented, here and on the way. What the kernel believes of the path's MTU counts for
    /// nothing if not: it may have changed.
    pub(super) fn may_fragment(&self, is_v6: bool, may: bool) -> io::Result<()> {
        let socket = self.socket.get_ref();
        match (is_v6, may) {
            (false, true) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?,
            (false, false) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?,
            (true, true) => {}
            (true, false) => {
                setsockopt(socket, Ipv6DontFrag, &true)?;
                set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
            }
        }
        Ok(())
    }

    /// After so many routers they are thrown away.
    pub(super) fn set_hop_limit(&self, is_v6: bool, hops: u8) -> io::Result<()> {
        let socket = self.socket.get_ref();
        if is_v6 { socket.set_unicast_hops_v6(hops.into()) } else { socket.set_ttl_v4(hops.into()) }
    }

    /// Hears only what is for this port, of all that the other end sends. Of raw sockets.
    pub(super) fn hear_only(&self, is_v6: bool, port: u16) -> io::Result<()> {
        self.socket.get_ref().attach_filter(&for_port(is_v6, port))
    }

    /// What they are sent from.
    pub(super) fn source(&self) -> io::Result<IpAddr> {
        let address = self.socket.get_ref().local_addr()?;
        address.as_socket().map(|address| address.ip()).ok_or_else(|| io::Error::other("no address of IP"))
    }

    /// Sends one. An error that was left by an earlier one is not taken for its own.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let socket = self.socket.get_ref();
        socket.send(bytes).or_else(|_| socket.send(bytes)).map(drop)
    }

    /// The next thing that comes.
    pub(super) async fn next(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        loop {
            let mut guard = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            let mut is_drained = true;
            for flags in [MsgFlags::MSG_ERRQUEUE, MsgFlags::empty()] {
                match self.receive(buffer, flags) {
                    Ok(Some(arrival)) => return Ok(arrival),
                    Err(Errno::EAGAIN) => {}
                    Err(errno) if OWN.contains(&errno) => return Err(errno.into()),
                    Ok(None) | Err(_) => is_drained = false,
                }
            }
            if is_drained {
                guard.clear_ready();
            }
        }
    }

    /// None: something without meaning here.
    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<Option<Arrival>, Errno> {
        let mut space = cmsg_space!(TimeSpec, libc::sock_extended_err, libc::sockaddr_in6);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.get_ref().as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), flags)?;
        let (mut stamp, mut heard) = (None, Some(Heard::Datagram).filter(|_| flags.is_empty()));
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(at) => stamp = Some(nanos(at)),
                ControlMessageOwned::Ipv4RecvErr(error, from)
                    if error.ee_origin == libc::SO_EE_ORIGIN_ICMP =>
                {
                    let from =
                        from.map(|from| IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes()));
                    heard = Some(of_icmp(&error, from));
                }
                ControlMessageOwned::Ipv6RecvErr(error, from)
                    if error.ee_origin == libc::SO_EE_ORIGIN_ICMP6 =>
                {
                    let from = from.map(|from| IpAddr::from(from.sin6_addr.s6_addr));
                    heard = Some(of_icmp(&error, from));
                }
                _ => {}
            }
        }
        Ok(heard.map(|heard| Arrival { heard, length: message.bytes, stamp }))
    }
}

/// Takes packets whose destination port, bytes 2 and 3 behind the IP header, is this one. Raw sockets of IPv4 show the
/// filter that header (raw(7)), those of IPv6 do not.
fn for_port(is_v6: bool, port: u16) -> Vec<SockFilter> {
    let step = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    let mut steps = if is_v6 {
        vec![step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 2)]
    } else {
        vec![
            step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
        ]
    };
    steps.extend([
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port.into()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]);
    steps
}

fn of_icmp(error: &libc::sock_extended_err, from: Option<IpAddr>) -> Heard {
    Heard::Error { kind: error.ee_type, code: error.ee_code, from, next_mtu: error.ee_info }
}

/// The kernel's `CLOCK_REALTIME`, by which it stamps.
pub(super) fn kernel_nanos() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, nanos)
}

fn nanos(time: TimeSpec) -> i64 {
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
