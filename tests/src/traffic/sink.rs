//! The receiving end in a pod: reads every datagram's id and answers every TCP message.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use serde::Deserialize;
use socket2::Socket;

use super::tcp::{HEADER, left, read_until, write_until};
use super::udp::id_of;
use crate::lab::netns::Netns;

/// Room for a second of the fastest stream, so that the receiver itself never drops. The kernel counts close to 1 KiB for
/// a small datagram.
const RECEIVE_BUFFER: usize = 256 << 20;
/// Room for a few datagrams.
const SMALL_BUFFER: usize = 8 << 10;
/// How often a blocked reader looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
/// How long after the sender's last datagram one may still arrive.
const QUIET: Duration = Duration::from_millis(150);
/// Largest message or answer taken, in bytes.
const LARGEST: usize = 64 << 20;

/// How a pod reads the datagrams sent to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// At once, from a large buffer.
    #[default]
    Attentive,
    /// Not before the traffic is over, from a small buffer.
    Asleep,
    /// Nobody listens.
    Absent,
}

/// Listens on one UDP and one TCP port until [`Sink::finish`].
#[derive(Debug)]
pub struct Sink {
    stop: Arc<AtomicBool>,
    datagrams: JoinHandle<Vec<u64>>,
    connections: JoinHandle<()>,
}

impl Sink {
    /// Binds both ports inside `netns` and starts reading. Connections still open at `deadline` are cut off.
    pub fn start(netns: &Netns, at: SocketAddr, deadline: Instant, reader: Reader) -> Result<Self> {
        let (socket, listener) = netns.enter(|| {
            let listener = TcpListener::bind(at).with_context(|| format!("listen on TCP {at}"))?;
            Ok((datagram_socket(at, reader)?, listener))
        })?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_udp, stop_tcp) = (Arc::clone(&stop), Arc::clone(&stop));
        Ok(Self {
            stop,
            datagrams: thread::spawn(move || {
                while reader != Reader::Attentive && !stop_udp.load(Ordering::Relaxed) {
                    thread::sleep(POLL);
                }
                socket.map_or_else(Vec::new, |socket| read_datagrams(&socket, &stop_udp))
            }),
            connections: thread::spawn(move || accept(&listener, &stop_tcp, deadline)),
        })
    }

    /// Waits for stragglers, stops, and returns the ids of the datagrams in the order they arrived.
    pub fn finish(self) -> Vec<u64> {
        thread::sleep(QUIET);
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.connections.join();
        self.datagrams.join().unwrap_or_default()
    }
}

fn datagram_socket(at: SocketAddr, reader: Reader) -> Result<Option<UdpSocket>> {
    if reader == Reader::Absent {
        return Ok(None);
    }
    let socket = UdpSocket::bind(at).with_context(|| format!("bind UDP {at}"))?;
    let buffer = if reader == Reader::Asleep { SMALL_BUFFER } else { RECEIVE_BUFFER };
    setsockopt(&socket, sockopt::RcvBufForce, &buffer).context("set the receive buffer")?;
    socket.set_read_timeout(Some(POLL))?;
    Ok(Some(socket))
}

fn read_datagrams(socket: &UdpSocket, stop: &AtomicBool) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut datagram = vec![0; 65_536];
    loop {
        // What is still on its way when it is time to stop would else be waited for.
        let is_last = stop.load(Ordering::Relaxed) && socket.set_nonblocking(true).is_ok();
        match socket.recv(&mut datagram) {
            Ok(length) => ids.extend(id_of(&datagram[..length])),
            Err(_) if is_last => return ids,
            Err(_) => {}
        }
    }
}

fn accept(listener: &TcpListener, stop: &AtomicBool, deadline: Instant) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(move || answer(stream, deadline))),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    });
}

/// Answers messages until the peer closes. The sender's log is the record of what went wrong.
fn answer(mut stream: TcpStream, deadline: Instant) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let outcome = answer_all(&mut stream, deadline);
    if outcome.is_err() {
        // Nothing may be retransmitted once the traffic is over.
        Socket::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    outcome
}

fn answer_all(stream: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    loop {
        let mut header = [0; HEADER];
        stream.set_read_timeout(Some(left(deadline)?))?;
        if stream.peek(&mut header[..1])? == 0 {
            return Ok(());
        }
        read_until(stream, &mut header, deadline)?;
        let length =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (request, answer) = (length(0) as usize, length(4) as usize);
        if request > LARGEST || answer > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        read_until(stream, &mut vec![0; request], deadline)?;
        write_until(stream, &vec![0x2e; answer], deadline)?;
    }
}
