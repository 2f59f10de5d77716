//! The routers on the way: packets of one flow that run out of hops (Paris traceroute, IMC 2006).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lastseen_proto::limits::PROBE_HOP_NANOS;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::flow::{Datagram, Flow, Syn};
use super::icmp::{self, Echo, LEAST_BYTES};
use super::spec::{Schedule, TraceProtocol};
use super::train::{self, About, Message};

/// So many rounds as the schedule says, each of at most `max_hops` packets.
pub(super) async fn run(
    to: SocketAddr,
    protocol: TraceProtocol,
    max_hops: u8,
    schedule: &Schedule,
    begin: Instant,
) -> io::Result<Vec<Attempt>> {
    Ok(match protocol {
        TraceProtocol::Icmp => {
            let socket = icmp::open(SocketAddr::new(to.ip(), 0))?;
            let rounds = Rounds { message: Echo::new(to.is_ipv6(), vec![LEAST_BYTES]), max_hops };
            train::run(&socket, &rounds, to.ip(), schedule, begin).await
        }
        TraceProtocol::Udp => {
            let (flow, socket) = Flow::open(to, false, 0)?;
            let rounds = Rounds { message: Datagram::new(flow, Vec::new()), max_hops };
            train::run(&socket, &rounds, to.ip(), schedule, begin).await
        }
        TraceProtocol::Tcp => {
            let (flow, socket) = Flow::open(to, true, 0)?;
            train::run(&socket, &Rounds { message: Syn(flow), max_hops }, to.ip(), schedule, begin).await
        }
    })
}

/// Messages one after the other, each with a hop more than the one before, again and again.
struct Rounds<M> {
    message: M,
    max_hops: u8,
}

impl<M: Message> Message for Rounds<M> {
    fn write(&self, sequence: u16, datagram: &mut Vec<u8>) {
        self.message.write(sequence, datagram);
    }

    fn answered(&self, datagram: &[u8]) -> About {
        self.message.answered(datagram)
    }

    fn quoted(&self, original: &[u8]) -> About {
        self.message.quoted(original)
    }

    fn count(&self, schedule: &Schedule) -> u16 {
        schedule.count * u16::from(self.max_hops)
    }

    fn offset(&self, sequence: u16, schedule: &Schedule) -> Duration {
        let (round, hop) = (sequence / u16::from(self.max_hops), sequence % u16::from(self.max_hops));
        schedule.interval * u32::from(round) + Duration::from_nanos(PROBE_HOP_NANOS as u64) * u32::from(hop)
    }

    fn hops(&self) -> Option<u8> {
        Some(self.max_hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_one_hop() {
        let rounds = Rounds { message: Echo::new(false, vec![LEAST_BYTES]), max_hops: 3 };
        let schedule = Schedule {
            start: 0,
            every: None,
            first_run: 0,
            count: 2,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        assert_eq!(rounds.count(&schedule), 6);
        assert_eq!(rounds.hops(), Some(3));
        assert_eq!(rounds.offset(4, &schedule), Duration::from_millis(1_010));
    }
}
