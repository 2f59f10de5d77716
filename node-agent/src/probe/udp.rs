//! Datagrams to a port.

use std::io;
use std::net::SocketAddr;

use socket2::Type;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::datagrams::Datagrams;
use super::spec::Schedule;
use super::train::{self, About, Message};

/// What tells our datagrams from all others; the number follows it.
const TOKEN_BYTES: usize = 14;

/// Sends `payload`, or what is unlike all else.
pub(super) async fn run(
    to: SocketAddr,
    payload: Option<&[u8]>,
    schedule: &Schedule,
    begin: Instant,
) -> io::Result<Vec<Attempt>> {
    let socket = Datagrams::open(Type::DGRAM, None, to)?;
    Ok(match payload {
        Some(payload) => train::run(&socket, &Given(payload), to.ip(), schedule, begin).await,
        None => train::run(&socket, &Numbered(rand::random()), to.ip(), schedule, begin).await,
    })
}

/// The same bytes each time: nothing tells which of them something is about.
struct Given<'a>(&'a [u8]);

impl Message for Given<'_> {
    fn write(&self, _sequence: u16, datagram: &mut Vec<u8>) {
        datagram.extend(self.0);
    }

    fn answered(&self, _datagram: &[u8]) -> About {
        About::Some
    }

    fn quoted(&self, _original: &[u8]) -> About {
        About::Some
    }
}

struct Numbered([u8; TOKEN_BYTES]);

impl Numbered {
    fn number(&self, bytes: &[u8]) -> About {
        // A server may answer in its own words, and a router quote nothing.
        let Some((token, rest)) = bytes.split_first_chunk::<TOKEN_BYTES>() else { return About::Some };
        match rest.first_chunk() {
            Some(number) if token == &self.0 => About::One(u16::from_be_bytes(*number)),
            _ => About::Some,
        }
    }
}

impl Message for Numbered {
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>) {
        datagram.extend(self.0);
        datagram.extend(sequence.to_be_bytes());
    }

    fn answered(&self, datagram: &[u8]) -> About {
        self.number(datagram)
    }

    fn quoted(&self, original: &[u8]) -> About {
        self.number(original)
    }
}
