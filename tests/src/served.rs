//! Servers in pods: each answers from when it is made until it is dropped.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::netns::Netns;

/// How often a server looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 65_535;

/// A server at work.
#[derive(Debug)]
pub struct Server {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Returns every datagram.
    pub fn echo(netns: &Netns, at: SocketAddr) -> Result<Self> {
        Self::of_datagrams(netns, at, |datagram| Some(datagram.to_vec()))
    }

    /// Answers every question with the address 10.9.8.7 (RFC 1035 §4.1).
    pub fn names(netns: &Netns, at: SocketAddr) -> Result<Self> {
        Self::of_datagrams(netns, at, |question| {
            let mut answer = question.to_vec();
            // A response without an error, with one answer.
            answer.get_mut(2..8)?.copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            // The question's name, A, IN, 30 s, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 9, 8, 7]);
            Some(answer)
        })
    }

    /// Takes connections and closes them.
    pub fn connections(netns: &Netns, at: SocketAddr) -> Result<Self> {
        Self::of_streams(netns, at, drop)
    }

    /// Serves one page of so many bytes.
    pub fn pages(netns: &Netns, at: SocketAddr, bytes: usize) -> Result<Self> {
        Self::of_streams(netns, at, move |stream| {
            // A client that goes is no concern of the server's.
            let _ = page(stream, bytes);
        })
    }

    fn of_datagrams(
        netns: &Netns,
        at: SocketAddr,
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let socket = netns.enter(|| UdpSocket::bind(at).with_context(|| format!("bind UDP {at}")))?;
        socket.set_read_timeout(Some(POLL))?;
        Ok(Self::run(move |over| {
            let mut buffer = vec![0; LARGEST];
            while !over.load(Ordering::Relaxed) {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        let _ = answer(&buffer[..length]).map(|answer| socket.send_to(&answer, from));
                    }
                    // The second: an answer before found nobody.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                    Err(error) => return eprintln!("UDP {at}: {error}"),
                }
            }
        }))
    }

    fn of_streams(
        netns: &Netns,
        at: SocketAddr,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<Self> {
        let listen = || TcpListener::bind(at).with_context(|| format!("listen on TCP {at}"));
        let listener = netns.enter(listen)?;
        listener.set_nonblocking(true)?;
        let serve = Arc::new(serve);
        Ok(Self::run(move |over| {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let serve = serve.clone();
                        thread::spawn(move || serve(stream));
                    }
                    Err(_) => thread::sleep(POLL / 10),
                }
            }
        }))
    }

    fn run(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = over.clone();
        Self { over, thread: Some(thread::spawn(move || work(&theirs))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn page(mut stream: TcpStream, bytes: usize) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // One segment holds all of it.
    let mut request = [0; 1_024];
    let _length = stream.read(&mut request)?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
    stream.write_all(&vec![b'x'; bytes])
}
