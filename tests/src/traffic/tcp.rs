//! TCP connections that carry messages: a few large ones for bulk, many small ones for request and response.
//!
//! A message is its length and the length of the wanted answer, four bytes each, then its bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::End;
use super::log::TcpLog;

/// Bytes in front of every message.
pub const HEADER: usize = 8;

/// One connection and its messages.
#[derive(Debug, Clone)]
pub struct TcpPlan {
    /// Messages, one after the other.
    pub messages: u32,
    /// Bytes per message.
    pub request: u32,
    /// Bytes per answer.
    pub answer: u32,
}

impl TcpPlan {
    /// Connects and exchanges every message. Whatever is unfinished at `deadline` is cut off by a reset, so
    /// that nothing is retransmitted afterwards.
    pub fn run(&self, from: End<'_>, to: SocketAddr, deadline: Instant) -> Result<TcpLog> {
        let socket = from.netns.enter(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
                .context("make a TCP socket")?;
            socket.bind(&SocketAddr::new(from.address, 0).into()).context("bind a TCP socket")?;
            Ok(socket)
        })?;
        let source_port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
        let mut answered = 0;
        let outcome = self.exchange(socket, to, deadline, &mut answered);
        let error = outcome.err().map(|error| error.to_string());
        Ok(TcpLog { source_port, completed: error.is_none(), answered, error })
    }

    fn exchange(
        &self,
        socket: Socket,
        to: SocketAddr,
        deadline: Instant,
        answered: &mut u32,
    ) -> io::Result<()> {
        socket.connect_timeout(&SockAddr::from(to), left(deadline)?)?;
        socket.set_linger(Some(Duration::ZERO))?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let mut message = vec![0x2e; HEADER + self.request as usize];
        message[..4].copy_from_slice(&self.request.to_be_bytes());
        message[4..HEADER].copy_from_slice(&self.answer.to_be_bytes());
        let mut answer = vec![0; self.answer as usize];
        for _ in 0..self.messages {
            write_until(&mut stream, &message, deadline)?;
            read_until(&mut stream, &mut answer, deadline)?;
            *answered += 1;
        }
        close(stream)
    }
}

/// Ends a connection on which nothing is outstanding in the ordinary way.
fn close(stream: TcpStream) -> io::Result<()> {
    let socket = Socket::from(stream);
    socket.set_linger(None)
}

/// Writes all of `bytes`; late is an error of kind `TimedOut`.
pub fn write_until(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let written = stream.write(bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Fills all of `bytes`; late is an error of kind `TimedOut`, an early end of kind `UnexpectedEof`.
pub fn read_until(stream: &mut TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

/// Time until `deadline`; none left is an error of kind `TimedOut`.
pub fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
