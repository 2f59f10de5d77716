//! What the seed decides for one scenario: who plays which part, sizes, rates and ports.

use std::net::IpAddr;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::file::{Scenario, Span, Traffic};
use crate::fault::{Cast, Side};
use crate::lab::Lab;
use crate::lab::node::Node;
use crate::lab::plan::Family;
use crate::traffic::sink::Reader;
use crate::traffic::tcp::TcpPlan;
use crate::traffic::udp::{Identity, UdpPlan};
use crate::traffic::{Conversation, End};

/// Largest payload of the third node's datagrams: always fits the overlay.
const CLEAN_UDP_BYTES: [usize; 2] = [40, 1400];
const CLEAN_UDP_PER_SECOND: [u32; 2] = [100, 400];
const CLEAN_TCP_BYTES: [u32; 2] = [200_000, 1_000_000];

/// Ports that the seed chooses from.
#[derive(Debug)]
struct Ports {
    listening: Range<u16>,
    /// Of several flows, the one after the last.
    sending: Range<u16>,
}

/// Those of the conversation into the fault. No tunnel's port is among these or the next, and no port in both: either
/// conversation may begin and end in any pod.
const FAULTY_PORTS: Ports = Ports { listening: 10_000..20_000, sending: 40_000..50_000 };
const CLEAN_PORTS: Ports = Ports { listening: 20_000..30_000, sending: 50_000..60_000 };

/// First port of the other conversations' listeners and senders, which none of the others is given by chance.
const OTHERS_PORT: u16 = 30_100;
const OTHERS_SOURCE_PORT: u16 = 60_100;

/// Cast and traffic of one scenario.
#[derive(Debug)]
pub struct Staging<'lab> {
    /// Who plays which part.
    pub cast: Cast<'lab>,
    /// From the sender's pod to the receiver's.
    pub faulty: Conversation<'lab>,
    /// Between the third node's pod and one of the two.
    pub clean: Conversation<'lab>,
    /// What else goes on.
    pub others: Vec<Conversation<'lab>>,
}

impl<'lab> Staging<'lab> {
    /// Decides everything from `seed` and the scenario's name. Traffic lasts `seconds`.
    pub fn new(lab: &'lab Lab, scenario: &Scenario, seed: u64, seconds: f64) -> Self {
        let mut random = StdRng::seed_from_u64(mix(seed, &scenario.name));
        let mut nodes: Vec<&Node> = lab.nodes.iter().collect();
        nodes.shuffle(&mut random);
        let [sender, receiver, bystander] = nodes[..] else { unreachable!("a lab has three nodes") };
        let by_chance = random.random();
        let bystander_meets_sender = scenario.fault.spares().map_or(by_chance, |side| side == Side::Sender);
        let cast = Cast { lab, sender, receiver, bystander, bystander_meets_sender, family: scenario.family };
        let pair = pods([sender, receiver], cast.family);
        let mut faulty = converse(&mut random, pair, FAULTY_PORTS, &scenario.traffic, seconds);
        scenario.fault.aim(&mut faulty, cast);
        let partner = if bystander_meets_sender { sender } else { receiver };
        let (from, to) = if random.random() { (bystander, partner) } else { (partner, bystander) };
        let pair = pods([from, to], cast.family);
        let clean = converse(&mut random, pair, CLEAN_PORTS, &clean_traffic(), seconds);
        let others = scenario.fault.others(cast).into_iter();
        let mut others: Vec<_> =
            others.map(|ends| converse(&mut random, ends, CLEAN_PORTS, &light_traffic(), seconds)).collect();
        for (other, nth) in others.iter_mut().zip(0..) {
            other.take_ports(OTHERS_PORT + nth, OTHERS_SOURCE_PORT + nth);
        }
        Self { cast, faulty, clean, others }
    }
}

impl Staging<'_> {
    /// Everything that is said: the faulty conversation, the clean one, the others.
    pub fn conversations(&self) -> Vec<&Conversation<'_>> {
        [&self.faulty, &self.clean].into_iter().chain(&self.others).collect()
    }
}

impl<'lab> Staging<'lab> {
    /// The node whose pod has this address.
    pub fn node_of(&self, address: IpAddr) -> Option<&'lab Node> {
        self.cast.lab.nodes.iter().find(|node| node.plan.pod_in(self.cast.family) == address)
    }
}

/// A different stream of choices for every scenario of a run.
fn mix(seed: u64, name: &str) -> u64 {
    name.bytes().fold(seed, |mixed, byte| mixed.rotate_left(7).wrapping_mul(31) ^ u64::from(byte))
}

fn clean_traffic() -> Traffic {
    Traffic {
        udp_bytes: CLEAN_UDP_BYTES,
        udp_per_second: CLEAN_UDP_PER_SECOND,
        tcp_bulk_bytes: Some(CLEAN_TCP_BYTES),
        tcp_requests: 20,
        udp_ttl: None,
        udp_identity: Identity::Numbered,
        udp_flows: None,
        udp_segments: None,
        udp_count: None,
        span: Span::Inside,
        reader: Reader::Attentive,
    }
}

fn light_traffic() -> Traffic {
    Traffic { udp_per_second: [30, 60], tcp_bulk_bytes: None, tcp_requests: 5, ..clean_traffic() }
}

fn converse<'lab>(
    random: &mut StdRng,
    [from, to]: [End<'lab>; 2],
    ports: Ports,
    traffic: &Traffic,
    seconds: f64,
) -> Conversation<'lab> {
    let port = random.random_range(ports.listening);
    let per_second = random.random_range(traffic.udp_per_second[0]..=traffic.udp_per_second[1]);
    let udp = UdpPlan {
        source_port: random.random_range(ports.sending) - traffic.udp_flows.unwrap_or(0),
        sizes: sizes(random, traffic.udp_bytes),
        per_second,
        count: traffic.udp_count.unwrap_or((f64::from(per_second) * seconds) as u64),
        ttl: traffic.udp_ttl,
        identity: traffic.udp_identity,
        flows: traffic.udp_flows.unwrap_or(0),
        segments: traffic.udp_segments.unwrap_or(0),
    };
    let (tcp, reader) = (connections(random, traffic), traffic.reader);
    Conversation { from, to, dialled: None, port, udp: Some(udp), tcp, reader }
}

fn pods(nodes: [&Node; 2], family: Family) -> [End<'_>; 2] {
    nodes.map(|node| End { netns: &node.pod, address: node.plan.pod_in(family) })
}

/// The two bounds and a few sizes between them, in random order.
fn sizes(random: &mut StdRng, [small, large]: [usize; 2]) -> Vec<usize> {
    let mut sizes = vec![small, large];
    sizes.extend((0..5).map(|_| random.random_range(small..=large)));
    sizes.shuffle(random);
    sizes
}

fn connections(random: &mut StdRng, traffic: &Traffic) -> Vec<TcpPlan> {
    let mut plans = Vec::new();
    if traffic.tcp_requests > 0 {
        // Requests pass every MTU, so that the transfer after them is reached.
        let (request, answer) = (random.random_range(20..600), random.random_range(20..8_000));
        plans.push(TcpPlan { messages: traffic.tcp_requests, request, answer });
    }
    if let Some([small, large]) = traffic.tcp_bulk_bytes {
        plans.push(TcpPlan { messages: 1, request: random.random_range(small..=large), answer: 1 });
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::{CLEAN_PORTS, FAULTY_PORTS, OTHERS_SOURCE_PORT, Ports};
    use crate::lab::plan::VXLAN_PORT;
    use crate::scenario::file::{folder, load};

    #[test]
    fn no_two_conversations_of_a_scenario_ever_want_the_same_port() {
        let scenarios = load(&folder()).expect("scenario files");
        let flows = scenarios.iter().filter_map(|scenario| scenario.traffic.udp_flows).max().unwrap_or(0);
        let wanted = |ports: Ports, flows| [ports.listening, ports.sending.start - flows..ports.sending.end];
        let mut ranges = [wanted(FAULTY_PORTS, flows), wanted(CLEAN_PORTS, 0)].concat();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
        for port in [OTHERS_SOURCE_PORT, VXLAN_PORT, 4789, 8473] {
            assert!(ranges.iter().all(|range| !range.contains(&port)), "{port} is in {ranges:?}");
        }
    }
}
