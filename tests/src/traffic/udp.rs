//! Datagrams at a steady rate, each with its id beyond the bytes that identify it to the product.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use serde::Deserialize;

use super::log::UdpLog;
use super::numbering::Numbering;
use super::{End, fragments};

/// Leading payload bytes that are the same in every datagram, unless they are to be distinct. The product hashes
/// at most 32, so the id, which follows, never helps it.
pub const SAME_BYTES: usize = 32;

/// What payloads are filled with.
pub const FILLER: u8 = 0x2e;

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
    /// As numbered, and payload that differs within the bytes that the product hashes: the identifications of
    /// super-frames overlap.
    Distinct,
}

/// A stream of datagrams.
#[derive(Debug, Clone, Default)]
pub struct UdpPlan {
    /// Local port, of several flows that of the first; 0 lets the kernel choose.
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
    /// Flows, one after the other, each from a port and a socket of its own; 0 means one.
    pub flows: u16,
    /// Datagrams that leave the pod as one super-frame; 0 means one.
    pub segments: u16,
}

impl UdpPlan {
    /// Sends the stream and returns what went out; less than planned when `deadline` came first.
    pub fn send(&self, from: End<'_>, to: SocketAddr, deadline: Instant) -> Result<UdpLog> {
        let start = || Numbering::start(from, self.source_port);
        let mut numbering = self.is_numbered(from).then(start).transpose()?;
        let mut log = from.netns.enter(|| self.send_all(from, to, deadline, &mut numbering))?;
        if let Some(numbering) = numbering.as_mut().filter(|_| !log.sent.is_empty()) {
            let seen = numbering.wait()?;
            log.numbered = Some(seen.with_context(|| format!("{} shows no datagram to {to}", from.address))?);
        }
        Ok(log)
    }

    /// Whether one identification tells all.
    fn is_numbered(&self, from: End<'_>) -> bool {
        self.identity != Identity::Identical
            && self.flows <= 1
            && self.source_port != 0
            && from.address.is_ipv4()
    }

    fn send_all(
        &self,
        from: End<'_>,
        to: SocketAddr,
        deadline: Instant,
        numbering: &mut Option<Numbering>,
    ) -> Result<UdpLog> {
        let step = self.step();
        let mut payload = Vec::new();
        let mut log = UdpLog {
            sent: Vec::with_capacity(self.count as usize),
            sent_at: Vec::with_capacity(self.count as usize),
            ..UdpLog::default()
        };
        let start = Instant::now();
        let mut open = None;
        for first in (0..self.count).step_by(step as usize) {
            let due = start + Duration::from_nanos(first * 1_000_000_000 / u64::from(self.per_second.max(1)));
            if due.max(Instant::now()) >= deadline {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let flow = self.flow_of(first);
            let socket = match open.take() {
                Some((known, socket)) if known == flow => socket,
                _ => self.socket(from, to, flow)?,
            };
            let ids = first..(first + step).min(self.count);
            let size = self.size(first);
            let id_of = |nth| if self.identity == Identity::Identical { 0 } else { nth };
            fill(&mut payload, size, self.identity, ids.clone().map(id_of));
            if self.segments > 1 {
                setsockopt(&socket, sockopt::UdpGsoSegment, &(size as i32)).context("set UDP_SEGMENT")?;
            }
            let outcome = match self.identity {
                Identity::Numbered | Identity::Distinct => socket.send(&payload),
                Identity::Identical => socket.send_to(&payload, to),
            };
            if outcome.is_ok() {
                log.sent_at.resize(log.sent_at.len() + ids.clone().count(), now());
                log.sent.extend(ids.map(id_of));
            }
            if let Some(looking) = numbering.as_mut() {
                log.numbered = looking.look()?;
            }
            // Nobody would read what its socket keeps.
            if log.numbered.is_some() {
                *numbering = None;
            }
            open = Some((flow, socket));
        }
        Ok(log)
    }

    /// Payload of the datagram with this id, in bytes.
    pub fn size(&self, id: u64) -> usize {
        self.sizes[(id / self.step()) as usize % self.sizes.len()].max(SMALLEST)
    }

    /// Datagrams handed to the kernel at once.
    pub fn step(&self) -> u64 {
        u64::from(self.segments.max(1))
    }

    /// The flow, counted from 0, that the datagram of this number belongs to.
    pub fn flow_of(&self, number: u64) -> u16 {
        let flows = u64::from(self.flows.max(1));
        (number * flows / self.count.max(1)).min(flows - 1) as u16
    }

    fn socket(&self, from: End<'_>, to: SocketAddr, flow: u16) -> Result<UdpSocket> {
        let port = self.source_port + flow;
        let socket = UdpSocket::bind((from.address, port))
            .with_context(|| format!("bind UDP {}:{port}", from.address))?;
        // A connected socket numbers its packets; an unconnected one that forbids fragments sends IP-ID 0.
        match self.identity {
            Identity::Numbered | Identity::Distinct => {
                socket.connect(to).with_context(|| format!("connect UDP to {to}"))?;
            }
            Identity::Identical => fragments::forbid(&socket).context("forbid fragments")?,
        }
        self.ttl.map_or(Ok(()), |ttl| socket.set_ttl(ttl)).context("set the TTL")?;
        Ok(socket)
    }
}

/// Makes one payload after the other, each with its id.
fn fill(payload: &mut Vec<u8>, size: usize, identity: Identity, ids: impl Iterator<Item = u64>) {
    payload.clear();
    for id in ids {
        let start = payload.len();
        payload.resize(start + size, FILLER);
        payload[start + SAME_BYTES..start + SMALLEST].copy_from_slice(&id.to_be_bytes());
        if identity == Identity::Distinct {
            payload[start..start + size_of::<u64>()].copy_from_slice(&id.to_be_bytes());
        }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// The id in a received datagram, absent when it is too short to be ours.
pub fn id_of(datagram: &[u8]) -> Option<u64> {
    let bytes = datagram.get(SAME_BYTES..SMALLEST)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_come_one_after_the_other_and_share_the_datagrams_evenly() {
        let plan = UdpPlan { count: 9, flows: 3, ..UdpPlan::default() };
        let flows: Vec<_> = (0..9).map(|number| plan.flow_of(number)).collect();
        assert_eq!(flows, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(UdpPlan { count: 5, ..UdpPlan::default() }.flow_of(4), 0);
    }

    #[test]
    fn every_payload_has_its_id_behind_bytes_that_are_equal_or_distinct() {
        let mut payload = Vec::new();
        let mut are_equal = |identity| {
            fill(&mut payload, 50, identity, [7, 8].into_iter());
            assert_eq!(
                (payload.len(), id_of(&payload[..50]), id_of(&payload[50..])),
                (100, Some(7), Some(8))
            );
            payload[..SAME_BYTES] == payload[50..50 + SAME_BYTES]
        };
        assert_eq!([Identity::Numbered, Identity::Distinct].map(&mut are_equal), [true, false]);
    }
}
