//! Somebody who answers in a pod.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::plan::Protocol;
use crate::lab::netns::Netns;

/// How often it looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
const LARGEST: usize = 65_535;

/// Returns datagrams, or takes connections, until it is dropped.
pub(super) struct Echo {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The kernel answers SYN as long as this is there.
    _listener: Option<TcpListener>,
}

impl Echo {
    pub(super) fn start(netns: &Netns, at: SocketAddr, protocol: Protocol) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut echo = Self { over: over.clone(), thread: None, _listener: None };
        match protocol {
            Protocol::Udp => {
                let socket = netns.enter(|| UdpSocket::bind(at).with_context(|| format!("bind UDP {at}")))?;
                socket.set_read_timeout(Some(POLL))?;
                echo.thread = Some(thread::spawn(move || answer(&socket, &over)));
            }
            Protocol::Tcp => {
                let listen = || TcpListener::bind(at).with_context(|| format!("listen on TCP {at}"));
                echo._listener = Some(netns.enter(listen)?);
            }
            Protocol::Icmp => {}
        }
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(socket: &UdpSocket, over: &AtomicBool) {
    let mut buffer = vec![0; LARGEST];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let _ = socket.send_to(&buffer[..length], from);
            }
            // The second: an answer before found nobody.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(error) => return eprintln!("the pod that answers: {error}"),
        }
    }
}
