//! Datagrams at a steady rate, each with its id beyond the bytes that identify it to the product.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{End, fragments};

/// Leading payload bytes that are the same in every datagram. The product hashes at most 32, so the id,
/// which follows, never helps it.
pub const SAME_BYTES: usize = 32;

/// Smallest payload: the equal bytes and the id.
pub const SMALLEST: usize = SAME_BYTES + size_of::<u64>();

/// What tells the datagrams of a stream from one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// An identification in the IP header and an id in the payload.
    #[default]
    Numbered,
    /// Nothing: IP-ID 0, and the same payload but for its size.
    Identical,
}

/// A stream of datagrams from one socket.
#[derive(Debug, Clone, Default)]
pub struct UdpPlan {
    /// Local port; 0 lets the kernel choose.
    pub source_port: u16,
    /// Payload sizes in bytes, used in turn; each at least [`SMALLEST`].
    pub sizes: Vec<usize>,
    /// Datagrams per second.
    pub per_second: u32,
    /// Datagrams in all.
    pub count: u64,
    /// TTL; absent: the kernel's default.
    pub ttl: Option<u32>,
    /// What tells them from one another.
    pub identity: Identity,
}

impl UdpPlan {
    /// Sends the stream and returns the ids that went out, fewer than planned when `deadline` came first.
    pub fn send(&self, from: End<'_>, to: SocketAddr, deadline: Instant) -> Result<Vec<u64>> {
        let socket = self.socket(from, to)?;
        let mut payload = vec![0x2e; self.sizes.iter().copied().max().unwrap_or(0).max(SMALLEST)];
        let mut sent = Vec::with_capacity(self.count as usize);
        let start = Instant::now();
        for id in 0..self.count {
            let due = start + Duration::from_nanos(id * 1_000_000_000 / u64::from(self.per_second.max(1)));
            if due >= deadline {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let size = self.sizes[id as usize % self.sizes.len()].max(SMALLEST);
            let id = if self.identity == Identity::Numbered { id } else { 0 };
            payload[SAME_BYTES..SMALLEST].copy_from_slice(&id.to_be_bytes());
            let outcome = match self.identity {
                Identity::Numbered => socket.send(&payload[..size]),
                Identity::Identical => socket.send_to(&payload[..size], to),
            };
            if outcome.is_ok() {
                sent.push(id);
            }
        }
        Ok(sent)
    }

    fn socket(&self, from: End<'_>, to: SocketAddr) -> Result<UdpSocket> {
        // A connected socket numbers its packets; an unconnected one that forbids fragments sends IP-ID 0.
        from.netns.enter(|| {
            let socket = UdpSocket::bind((from.address, self.source_port))
                .with_context(|| format!("bind UDP {}:{}", from.address, self.source_port))?;
            match self.identity {
                Identity::Numbered => socket.connect(to).with_context(|| format!("connect UDP to {to}"))?,
                Identity::Identical => fragments::forbid(&socket).context("forbid fragments")?,
            }
            self.ttl.map_or(Ok(()), |ttl| socket.set_ttl(ttl)).context("set the TTL")?;
            Ok(socket)
        })
    }
}

/// The id in a received datagram, absent when it is too short to be ours.
pub fn id_of(datagram: &[u8]) -> Option<u64> {
    let bytes = datagram.get(SAME_BYTES..SMALLEST)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}
