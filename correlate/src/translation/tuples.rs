//! What two tuples say about a translation between them.

use std::net::IpAddr;

use lastseen_packet::observation::FlowKey;

use crate::input::Translation;

/// Lowest port that Linux chooses by itself, `net.ipv4.ip_local_port_range`.
const EPHEMERAL: u16 = 32_768;

/// How one tuple may have become another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinship {
    /// A port that the sender's kernel drew at random is the same in both.
    pub(super) keeps_port: bool,
}

/// Whether `after` can be what a translation made of `before`: it left one of the ends as it was, or it put a node's
/// own address in the place of a source, or replaced one as destination. `is_held` tells the addresses of nodes.
pub(super) fn kinship(
    before: &FlowKey,
    after: &FlowKey,
    is_held: impl Fn(IpAddr) -> bool,
) -> Option<Kinship> {
    let is_family = before.source.is_ipv4() == after.source.is_ipv4();
    if before.protocol != after.protocol || !is_family || before.overlay.is_some() || after.overlay.is_some()
    {
        return None;
    }
    let keeps_source = (before.source, before.source_port) == (after.source, after.source_port);
    let keeps_destination =
        (before.destination, before.destination_port) == (after.destination, after.destination_port);
    let is_kin = if keeps_source || keeps_destination {
        keeps_source != keeps_destination
    } else {
        is_held(after.source) || is_held(before.destination)
    };
    let kept = |a: u16, b: u16| a == b && a >= EPHEMERAL;
    let keeps_port =
        kept(before.source_port, after.source_port) || kept(before.destination_port, after.destination_port);
    is_kin.then_some(Kinship { keeps_port })
}

/// The tuples that packets of a tracked connection have one after the other, both ways. Destinations are translated
/// before routing and sources after it, so between the two there is a third.
pub(super) fn steps(known: &Translation) -> Vec<(FlowKey, FlowKey)> {
    let Translation { original, reply } = known;
    let Some(sent) = reply.reversed() else { return Vec::new() };
    let routed = FlowKey { source: original.source, source_port: original.source_port, ..sent };
    let mut steps = vec![(*original, sent), (*original, routed), (routed, sent)];
    let answers = steps.iter().filter_map(|(from, to)| Some((to.reversed()?, from.reversed()?)));
    let answers: Vec<_> = answers.collect();
    steps.extend(answers);
    steps.retain(|(from, to)| from != to);
    steps
}

/// Of these, those to the tuple with which the packets leave the node.
pub(super) fn last_steps(known: &Translation) -> Vec<(FlowKey, FlowKey)> {
    let ends = [known.reply.reversed(), known.original.reversed()];
    let mut steps = steps(known);
    steps.retain(|(_, to)| ends.contains(&Some(*to)));
    steps
}

#[cfg(test)]
mod tests {
    use lastseen_packet::observation::protocol;

    use super::*;

    fn tuple(source: (&str, u16), destination: (&str, u16)) -> FlowKey {
        FlowKey {
            source: source.0.parse().unwrap(),
            destination: destination.0.parse().unwrap(),
            source_port: source.1,
            destination_port: destination.1,
            protocol: protocol::UDP,
            ..FlowKey::UNSPECIFIED
        }
    }

    #[test]
    fn a_translation_leaves_an_end_or_puts_a_node_in_its_place() {
        let (pod, vip, node) = (("10.1.0.2", 40_000), ("10.96.0.1", 53), ("192.168.0.1", 40_000));
        let (backend, other) = (("10.2.0.2", 5353), ("10.3.0.2", 1234));
        let is_held = |address: IpAddr| address == node.0.parse::<IpAddr>().unwrap();
        let kin = |a, b| kinship(&a, &b, is_held).map(|kinship| kinship.keeps_port);
        assert_eq!(kin(tuple(pod, vip), tuple(pod, backend)), Some(true));
        assert_eq!(kin(tuple(pod, vip), tuple(node, backend)), Some(true));
        assert_eq!(kin(tuple(other, vip), tuple(node, vip)), Some(false));
        assert_eq!(kin(tuple(backend, node), tuple(vip, pod)), Some(true));
        assert_eq!(kin(tuple(pod, vip), tuple(other, backend)), None);
        assert_eq!(kin(tuple(pod, vip), tuple(pod, vip)), None);
    }

    #[test]
    fn a_tracked_connection_has_up_to_three_tuples_each_way() {
        let (pod, vip, node, backend) =
            (("10.1.0.2", 40_000), ("10.96.0.1", 53), ("10.1.0.0", 41_000), ("10.2.0.2", 5353));
        let both = Translation { original: tuple(pod, vip), reply: tuple(backend, node) };
        let steps_of_both = steps(&both);
        assert_eq!(steps_of_both.len(), 6);
        assert!(steps_of_both.contains(&(tuple(pod, vip), tuple(pod, backend))));
        assert!(steps_of_both.contains(&(tuple(pod, backend), tuple(node, backend))));
        assert!(steps_of_both.contains(&(tuple(backend, pod), tuple(vip, pod))));
        let none = Translation { original: tuple(pod, vip), reply: tuple(vip, pod) };
        assert_eq!(steps(&none), []);
    }
}
