//! How much comes through from one source to another.

use std::net::SocketAddr;

use super::addresses::Addresses;
use super::model::{Family, Source};
use super::pairs::{Throughput, Token};
use super::whereabouts::place;
use crate::error::Error;
use crate::fleet::NodeView;
use crate::model::SECOND;
use crate::time::display_span;
use lastseen_proto::limits::{
    PROBE_PAYLOAD_BYTES, THROUGHPUT_BYTES, THROUGHPUT_NANOS, THROUGHPUT_RATE, THROUGHPUT_SENDERS,
    THROUGHPUT_TOKEN_BYTES,
};

/// How long it sends unless the caller says.
pub const DEFAULT_DURATION_NANOS: i64 = 5 * SECOND;
/// Ports of receivers unless the caller names one: nobody is given them, those of services and of hosts' own connections
/// begin above.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What is wrong with it, whoever takes part.
pub(super) fn check(asked: &Throughput) -> Result<(), Error> {
    if !THROUGHPUT_NANOS.contains(&asked.duration_nanos) {
        let [given, least, most] =
            [asked.duration_nanos, *THROUGHPUT_NANOS.start(), *THROUGHPUT_NANOS.end()].map(display_span);
        return Err(Error::invalid("duration", format!("{given} is not within {least} and {most}")));
    }
    if let Some(rate) = asked.bits_per_second.filter(|rate| !THROUGHPUT_RATE.contains(rate)) {
        let (least, most) = (THROUGHPUT_RATE.start(), THROUGHPUT_RATE.end());
        let reason = format!("{rate} bits a second are not within {least} and {most}");
        return Err(Error::invalid("bits_per_second", reason));
    }
    // One datagram at least.
    let least = PROBE_PAYLOAD_BYTES as u64;
    if !(least..=THROUGHPUT_BYTES).contains(&asked.max_bytes) {
        let reason = format!("{} is not within {least} and {THROUGHPUT_BYTES}", asked.max_bytes);
        return Err(Error::invalid("max_bytes", reason));
    }
    Ok(())
}

/// Both ends: who they are, where the one listens, and from where the other may come. The receiver becomes the second
/// source; what is returned is its address and port, the target.
pub(super) fn resolve(
    asked: &mut Throughput,
    family: Family,
    sources: &mut Vec<Source>,
    nodes: &[NodeView],
) -> Result<String, Error> {
    let [from] = &sources[..] else {
        return Err(Error::invalid("sources", "a throughput has one sender; give one source"));
    };
    asked.to = place("to", asked.to.clone(), nodes)?;
    if *from == asked.to {
        return Err(Error::invalid("to", format!("{from} is the sender; give another one")));
    }
    let mut addresses = Addresses::new(nodes);
    let found = addresses.of(&asked.to, asked.network, family);
    let address = found.map_err(|reason| Error::invalid("to", reason))?;
    if asked.port == 0 {
        asked.port = rand::random_range(PORTS);
    }
    asked.senders = addresses.senders(from, address.is_ipv6());
    asked.senders.truncate(THROUGHPUT_SENDERS);
    asked.token = Token(rand::random::<[u8; THROUGHPUT_TOKEN_BYTES]>().to_vec());
    sources.push(asked.to.clone());
    Ok(SocketAddr::new(address, asked.port).to_string())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::fleet::fixtures::{node, node_at};
    use crate::probes::pairs::{HostNetwork, Transport};

    fn asked(to: &str, netns: &str) -> Throughput {
        Throughput {
            transport: Transport::Udp,
            duration_nanos: DEFAULT_DURATION_NANOS,
            bits_per_second: None,
            max_bytes: THROUGHPUT_BYTES,
            port: 0,
            network: HostNetwork::Underlay,
            to: Source { node: to.into(), netns: netns.into() },
            token: Token::default(),
            senders: Vec::new(),
        }
    }

    fn source(node: &str, netns: &str) -> Source {
        Source { node: node.into(), netns: netns.into() }
    }

    fn resolved(mut asked: Throughput, from: Source) -> Result<(Throughput, Vec<Source>, String), String> {
        let nodes = [node_at("a", "10.0.0.1"), node_at("b", "10.0.0.2"), node("c", true)];
        let mut sources = vec![from];
        let target =
            resolve(&mut asked, Family::Any, &mut sources, &nodes).map_err(|error| error.to_string())?;
        Ok((asked, sources, target))
    }

    #[test]
    fn both_ends_are_placed_and_share_a_secret_that_is_not_shown() {
        let (one, sources, target) = resolved(asked("b", ""), source("a", "")).unwrap();
        assert_eq!(sources, [source("a", ""), source("b", "")]);
        assert_eq!(target, format!("10.0.0.2:{}", one.port));
        assert!(PORTS.contains(&one.port) && one.token.0.len() == THROUGHPUT_TOKEN_BYTES);
        assert_eq!(one.senders, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(format!("{one:?}").contains("(secret)"));
        let (other, ..) = resolved(asked("b", ""), source("a", "")).unwrap();
        assert_ne!(one.token, other.token);
        let port = Throughput { port: 5_201, ..asked("10.0.0.2", "") };
        let (pod, sources, target) = resolved(port, source("a", "@10.244.1.9")).unwrap();
        assert_eq!((sources[1].clone(), target.as_str()), (source("b", "@10.0.0.2"), "10.0.0.2:5201"));
        let senders: Vec<String> = pod.senders.iter().map(ToString::to_string).collect();
        assert_eq!(senders, ["10.244.1.9", "10.0.0.1"], "its own, and what its node may put in its place");
        let (named, ..) = resolved(asked("b", ""), source("a", "blue")).unwrap();
        assert!(named.senders.is_empty(), "the token alone tells");
        let same_node = resolved(asked("a", "@10.244.1.9"), source("a", "")).unwrap();
        assert_eq!(same_node.1.len(), 2, "both on one node");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (asked, from, words) in [
            (asked("z", ""), source("a", ""), "name: no node named \"z\""),
            (asked("a", ""), source("a", ""), "to: a is the sender"),
            (asked("c", ""), source("a", ""), "to: c: its tables show neither the end of a tunnel"),
            (asked("b", "blue"), source("a", ""), "to: b:blue: the address of this network namespace"),
        ] {
            let reason = resolved(asked, from).unwrap_err();
            assert!(reason.starts_with(words), "{reason}");
        }
        let nodes = [node_at("a", "10.0.0.1"), node_at("b", "10.0.0.2")];
        let mut two = vec![source("a", ""), source("b", "")];
        let reason = resolve(&mut asked("b", ""), Family::Any, &mut two, &nodes).unwrap_err().to_string();
        assert_eq!(reason, "sources: a throughput has one sender; give one source");
    }

    #[test]
    fn limits_take_what_reaches_them() {
        let usual = || asked("b", "");
        let of = |nanos| Throughput { duration_nanos: nanos, ..usual() };
        let rate = |bits| Throughput { bits_per_second: Some(bits), ..usual() };
        let bytes = |most| Throughput { max_bytes: most, ..usual() };
        for (within, beyond, words) in [
            (of(SECOND), of(SECOND - 1), "duration: "),
            (of(60 * SECOND), of(60 * SECOND + 1), "duration: 1m"),
            (
                rate(100_000),
                rate(99_999),
                "bits_per_second: 99999 bits a second are not within 100000 and 10000000000",
            ),
            (rate(10_000_000_000), rate(10_000_000_001), "bits_per_second: "),
            (bytes(1_232), bytes(1_231), "max_bytes: 1231 is not within 1232 and 100000000000"),
            (bytes(THROUGHPUT_BYTES), bytes(THROUGHPUT_BYTES + 1), "max_bytes: "),
        ] {
            assert!(check(&within).is_ok(), "{within:?}");
            let reason = check(&beyond).unwrap_err().to_string();
            assert!(reason.starts_with(words), "{reason}");
        }
    }

    #[test]
    fn a_receiver_knows_no_more_addresses_than_the_limit() {
        use lastseen_proto::v1;
        use prost::Message as _;
        let mut many = node_at("a", "10.0.0.1");
        let mut topology = v1::NodeTopology::decode(many.record.topology.clone()).unwrap();
        topology.interfaces[0].addresses.extend((0..100).map(|number| format!("10.9.0.{number}/32")));
        many.record.topology = topology.encode_to_vec().into();
        let (mut asked, mut sources) = (asked("b", ""), vec![source("a", "")]);
        resolve(&mut asked, Family::Any, &mut sources, &[many, node_at("b", "10.0.0.2")]).unwrap();
        assert_eq!(asked.senders.len(), THROUGHPUT_SENDERS);
        assert_eq!(asked.senders[0].to_string(), "10.0.0.1");
    }
}
