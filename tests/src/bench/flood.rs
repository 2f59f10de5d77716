//! Small datagrams between two pods as fast as the kernel takes them.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::node::Node;

/// Port the receiver holds open.
const PORT: u16 = 9;
/// Datagrams per system call, `UDP_MAX_SEGMENTS` of kernels before 6.9.
const BURST: usize = 64;
/// Bytes of payload.
const PAYLOAD: usize = 64;

/// Sends from `from`'s pod to `to`'s for `time` with this many threads, and returns how many datagrams went out.
pub fn run(from: &Node, to: &Node, senders: usize, time: Duration) -> Result<u64> {
    let target = SocketAddr::new(to.plan.pod.into(), PORT);
    // Nobody reads it: a full socket is the cheapest way to take a packet and answer nothing.
    let sink = to.pod.enter(|| UdpSocket::bind(target).with_context(|| format!("bind UDP {target}")))?;
    setsockopt(&sink, sockopt::RcvBuf, &4096).context("shrink the receive buffer")?;
    let sockets = (0..senders).map(|_| {
        from.pod.enter(|| {
            let socket = UdpSocket::bind((from.plan.pod, 0)).context("bind a UDP socket")?;
            socket.connect(target).with_context(|| format!("connect UDP to {target}"))?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &(PAYLOAD as i32)).context("set UDP_SEGMENT")?;
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
    let mut burst = [0x2e_u8; BURST * PAYLOAD];
    let mut sent = 0_u64;
    while Instant::now() < deadline {
        for (id, payload) in (sent..).zip(burst.chunks_exact_mut(PAYLOAD)) {
            payload[..8].copy_from_slice(&id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        }
        match socket.send(&burst) {
            Ok(_) => sent += BURST as u64,
            // The kernel is out of buffers for a moment: that is its highest rate.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error).context("send a burst of datagrams"),
        }
    }
    Ok(sent)
}
