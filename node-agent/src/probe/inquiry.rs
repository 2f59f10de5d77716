//! A question to everybody on a link, and who answers it.
#![allow(unsafe_code)] // tokio cannot know that a descriptor stays the same one as long as it is registered.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;

use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longest answer: an Ethernet frame's payload.
const ANSWER_BYTES: usize = 1_500;

/// Link-layer address of Ethernet.
pub(super) type Mac = [u8; 6];

/// Reads an answer: whose address the target has.
pub(super) type Read = fn(&[u8], IpAddr) -> Option<Mac>;

/// The question. The socket belongs to the network namespace of the thread that opened it.
pub(super) struct Inquiry {
    socket: AsyncFd<Socket>,
    question: Vec<u8>,
    everybody: SockAddr,
    read: Read,
    target: IpAddr,
}

impl Inquiry {
    pub(super) fn new(
        socket: Socket,
        question: Vec<u8>,
        everybody: SockAddr,
        read: Read,
        target: IpAddr,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor, and `AsyncFd` the socket; nothing here puts another one in its place.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, question, everybody, read, target })
    }

    pub(super) fn ask(&self) -> io::Result<()> {
        self.socket.get_ref().send_to(&self.question, &self.everybody).map(drop)
    }

    /// The next one that answers.
    pub(super) async fn next(&self) -> io::Result<Mac> {
        loop {
            let mut guard = self.socket.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); ANSWER_BYTES];
            match guard.try_io(|socket| socket.get_ref().recv(&mut buffer)) {
                Err(_would_block) => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(length)) => {
                    // SAFETY: the kernel has written so many bytes.
                    let bytes = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() });
                    let bytes: Vec<u8> = bytes.collect();
                    if let Some(mac) = (self.read)(&bytes, self.target) {
                        return Ok(mac);
                    }
                }
            }
        }
    }
}
