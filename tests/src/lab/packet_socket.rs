//! A raw socket on one interface: every frame that comes in there, as it is, with the offload header that lets it be
//! sent on unchanged.

#![allow(unsafe_code, reason = "AF_PACKET's address and options have no safe interface")]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::netns::Netns;

/// Length of `struct virtio_net_hdr`, which is in front of every frame.
pub const OFFLOAD_HEADER: usize = 10;
/// Room for a second of the fastest stream.
const RECEIVE_BUFFER: usize = 64 << 20;
/// The longest frame with its headers.
pub const LONGEST: usize = OFFLOAD_HEADER + 14 + 65_536;

/// An open socket.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    interface: String,
}

impl PacketSocket {
    /// Opens a socket on `interface`. What is sent there does not come back.
    pub fn open(netns: &Netns, interface: &str) -> Result<Self> {
        let socket = netns.enter(|| {
            let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
            open(index, &[libc::PACKET_VNET_HDR, libc::PACKET_IGNORE_OUTGOING])
                .with_context(|| format!("open a socket on {interface}"))
        })?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Opens a socket on all interfaces that also shows what is sent.
    pub fn open_everywhere(netns: &Netns) -> Result<Self> {
        let open = || open(0, &[libc::PACKET_VNET_HDR]).context("open a socket on every interface");
        Ok(Self { socket: netns.enter(open)?, interface: "every interface".to_owned() })
    }

    /// The next frame, behind its offload header. Absent if none waits.
    pub fn receive<'buffer>(&self, buffer: &'buffer mut [u8]) -> Result<Option<&'buffer [u8]>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).with_context(|| format!("receive from {}", self.interface)),
        }
    }

    /// As [`Self::receive`], with the kernel's stamp in nanoseconds since 1970.
    pub fn receive_stamped<'buffer>(
        &self,
        buffer: &'buffer mut [u8],
    ) -> Result<Option<(&'buffer [u8], i64)>> {
        let mut control = nix::cmsg_space!(libc::timespec);
        let mut parts = [io::IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("receive from {}", self.interface)),
        };
        let stamp = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec()),
            _ => None,
        });
        let length = message.bytes;
        Ok(Some((&buffer[..length], stamp.context("a frame without a stamp")?)))
    }

    /// Sends a frame behind its offload header.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = (&self.socket).write(frame);
        sent.map(drop).with_context(|| format!("send {} bytes to {}", frame.len(), self.interface))
    }

    /// Frames that came while the buffer was full, since the last call.
    pub fn dropped(&self) -> Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `stats`, which live through the call.
        let outcome = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error()).context("read a socket's drops");
        }
        Ok(stats.tp_drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// On the interface with this index, 0 for all.
fn open(index: libc::c_uint, options: &[libc::c_int]) -> Result<Socket> {
    // Without a protocol nothing comes in before the socket is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    for &option in options {
        switch_on(&socket, option).with_context(|| format!("set option {option}"))?;
    }
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address(index))?;
    Ok(socket)
}

fn switch_on(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let value: libc::c_int = 1;
    // SAFETY: the kernel reads the four bytes of `value`, which live through the call, and keeps no pointer.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Every protocol on the interface with this index.
fn address(index: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is plain old data that is valid zeroed and smaller than the storage.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    link.sll_ifindex = index as i32;
    // SAFETY: the storage was just filled with an address of this length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
