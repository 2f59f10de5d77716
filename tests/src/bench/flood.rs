//! Small datagrams between two pods as fast as the kernel takes them.

use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};

use crate::lab::node::Node;

/// Port the receiver holds open.
const PORT: u16 = 9;
/// Datagrams per system call.
const BURST: usize = 64;
/// Bytes of payload.
const PAYLOAD: usize = 64;

/// Sends from `from`'s pod to `to`'s for `time` with this many threads, and returns how many datagrams went out.
pub fn run(from: &Node, to: &Node, senders: usize, time: Duration) -> Result<u64> {
    let target = SocketAddrV4::new(to.plan.pod, PORT);
    // Nobody reads it: a full socket is the cheapest way to take a packet and answer nothing.
    let sink = to.pod.enter(|| UdpSocket::bind(target).with_context(|| format!("bind UDP {target}")))?;
    setsockopt(&sink, sockopt::RcvBuf, &4096).context("shrink the receive buffer")?;
    let sockets = (0..senders).map(|_| {
        from.pod.enter(|| {
            let socket = UdpSocket::bind((from.plan.pod, 0)).context("bind a UDP socket")?;
            socket.connect(target).with_context(|| format!("connect UDP to {target}"))?;
            Ok(socket)
        })
    });
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    let deadline = Instant::now() + time;
    thread::scope(|scope| {
        let running: Vec<_> =
            sockets.iter().map(|socket| scope.spawn(move || send(socket, deadline))).collect();
        let sent =
            running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a sender panicked"))?);
        sent.sum::<Result<u64>>()
    })
}

/// Datagrams differ in their first bytes, as those of applications do.
fn send(socket: &UdpSocket, deadline: Instant) -> Result<u64> {
    let mut payloads = [[0x2e_u8; PAYLOAD]; BURST];
    let mut sent = 0_u64;
    while Instant::now() < deadline {
        for (id, payload) in (sent..).zip(&mut payloads) {
            payload[..8].copy_from_slice(&id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        }
        sent += burst(socket, &payloads)?;
    }
    Ok(sent)
}

fn burst(socket: &UdpSocket, payloads: &[[u8; PAYLOAD]; BURST]) -> Result<u64> {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    let slices: [[IoSlice<'_>; 1]; BURST] = std::array::from_fn(|index| [IoSlice::new(&payloads[index])]);
    let flags = MsgFlags::empty();
    match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BURST], [], flags) {
        Ok(results) => Ok(results.count() as u64),
        // The kernel is out of buffers for a moment: that is its highest rate.
        Err(nix::Error::ENOBUFS | nix::Error::EAGAIN) => Ok(0),
        Err(error) => Err(io::Error::from(error)).context("send a burst of datagrams"),
    }
}
