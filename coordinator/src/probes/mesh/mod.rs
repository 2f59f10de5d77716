//! Every source probes other sources.

mod choice;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lastseen_proto::limits::PROBE_NEIGHBORS;

use self::choice::choose;
use super::addresses::Addresses;
use super::model::{Family, Kind, Source};
use super::pairs::{HostNetwork, Member, Mesh};
use crate::error::Error;
use crate::fleet::NodeView;
use crate::limits;

/// As it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Others that each probes; absent: all, of many some.
    pub neighbors: Option<u32>,
    /// Which address stands for a host.
    pub network: HostNetwork,
    /// Of TCP and UDP; 0: none.
    pub port: u16,
}

/// What is wrong with it, whoever is in it.
pub(super) fn check(asked: &Asked, kind: &Kind, targets: &[String]) -> Result<(), Error> {
    if !targets.is_empty() {
        return Err(Error::invalid("targets", "a mesh probes its own sources; leave the targets out"));
    }
    match (kind, asked.port) {
        (Kind::Icmp { .. } | Kind::PathMtu { .. }, 0) | (Kind::Tcp | Kind::Udp { .. }, 1..) => {}
        (Kind::Icmp { .. } | Kind::PathMtu { .. }, port) => {
            return Err(Error::invalid("port", format!("{port} is given, and ICMP has none; leave it out")));
        }
        (Kind::Tcp | Kind::Udp { .. }, 0) => {
            return Err(Error::invalid("port", "missing; say where the sources listen"));
        }
        _ => return Err(Error::invalid("kind", "a mesh is of icmp, tcp, udp or mtu")),
    }
    match asked.neighbors {
        Some(given) if !PROBE_NEIGHBORS.contains(&given) => {
            let (least, most) = (PROBE_NEIGHBORS.start(), PROBE_NEIGHBORS.end());
            Err(Error::invalid("neighbors", format!("{given} is not within {least} and {most}")))
        }
        _ => Ok(()),
    }
}

/// Who is in it and whom each probes, once and for all.
pub(super) fn resolve(
    asked: &Asked,
    family: Family,
    sources: &[Source],
    nodes: &[NodeView],
) -> Result<Mesh, Error> {
    let mut members = members(asked, family, sources, nodes);
    let reached: Vec<usize> = (0..members.len()).filter(|at| members[*at].address.is_some()).collect();
    if reached.len() < 2 {
        let why = members.iter().find(|member| !member.reason.is_empty());
        let why = why.map_or_else(String::new, |member| format!(": {}", member.reason));
        let reason = format!("a mesh needs 2 with an address, and {} have one{why}", reached.len());
        return Err(Error::invalid("sources", reason));
    }
    let default = if reached.len() > limits::MESH_WHOLE { limits::MESH_NEIGHBORS } else { u32::MAX };
    let neighbors = asked.neighbors.unwrap_or(default).min(reached.len() as u32 - 1);
    let names: Vec<String> = reached.iter().map(|at| members[*at].source.to_string()).collect();
    for (own, others) in choose(&names, neighbors as usize).into_iter().enumerate() {
        let others = others.into_iter().map(|other| reached[usize::from(other)] as u16);
        members[reached[own]].targets = others.collect();
    }
    Ok(Mesh { neighbors, network: asked.network, port: asked.port, members })
}

/// In the order of the sources. Of two with one address the second has no part: nobody could tell them apart.
fn members(asked: &Asked, family: Family, sources: &[Source], nodes: &[NodeView]) -> Vec<Member> {
    let mut addresses = Addresses::new(nodes);
    let mut holders: BTreeMap<IpAddr, &Source> = BTreeMap::new();
    let member = |source| {
        let found = addresses.of(source, asked.network, family).and_then(|address| {
            match holders.insert(address, source) {
                None => Ok(address),
                Some(first) => {
                    holders.insert(address, first);
                    Err(format!("{first} has the address {address} too; leave one of them out"))
                }
            }
        });
        let (address, reason) = match found {
            Ok(address) => (Some(address), String::new()),
            Err(reason) => (None, reason),
        };
        Member { source: source.clone(), address, reason, targets: Vec::new() }
    };
    sources.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixtures::{node, node_at};

    fn source(text: &str) -> Source {
        let (node, netns) = text.split_once(':').unwrap_or((text, ""));
        Source { node: node.into(), netns: netns.into() }
    }

    fn mesh_of(asked: &Asked, sources: &[&str], nodes: &[NodeView]) -> Result<Mesh, String> {
        let sources: Vec<Source> = sources.iter().map(|text| source(text)).collect();
        resolve(asked, Family::Any, &sources, nodes).map_err(|error| error.to_string())
    }

    fn many(count: usize) -> (Vec<String>, Vec<NodeView>) {
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let at = |number: usize| format!("10.0.{}.{}", number / 250, number % 250 + 1);
        let nodes = names.iter().enumerate().map(|(number, name)| node_at(name, &at(number))).collect();
        (names, nodes)
    }

    #[test]
    fn who_has_no_address_is_left_out_with_a_reason_and_the_others_go_on() {
        let nodes = [node_at("a", "10.0.0.1"), node_at("b", "10.0.0.2"), node("c", true)];
        let sources = ["a", "c", "b:@10.244.2.9", "b:blue", "a:@10.0.0.1"];
        let mesh = mesh_of(&Asked::default(), &sources, &nodes).unwrap();
        let shown = |member: &Member| member.address.map(|address| address.to_string());
        let addresses: Vec<_> = mesh.members.iter().map(shown).collect();
        assert_eq!(addresses, [Some("10.0.0.1".into()), None, Some("10.244.2.9".into()), None, None]);
        assert_eq!((mesh.neighbors, &mesh.members[0].targets), (1, &vec![2]));
        assert_eq!(mesh.members[2].targets, [0]);
        let reasons: Vec<&str> = mesh.members.iter().map(|member| member.reason.as_str()).collect();
        assert!(reasons[1].starts_with("c: its tables show neither the end of a tunnel nor a default route"));
        assert!(reasons[3].contains("b:blue: the address of this network namespace is not known"));
        assert_eq!(reasons[4], "a has the address 10.0.0.1 too; leave one of them out");
        let alone = mesh_of(&Asked::default(), &["a", "c"], &nodes).unwrap_err();
        assert!(alone.starts_with("sources: a mesh needs 2 with an address, and 1 have one: c: "), "{alone}");
    }

    #[test]
    fn beyond_the_limit_each_probes_some() {
        let limit = limits::MESH_WHOLE;
        for (count, asked, neighbors) in [
            (limit, None, limit - 1),
            (limit + 1, None, limits::MESH_NEIGHBORS as usize),
            (limit + 1, Some(64), limit),
            (5, Some(2), 2),
        ] {
            let (names, nodes) = many(count);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let asked = Asked { neighbors: asked, ..Asked::default() };
            let mesh = mesh_of(&asked, &names, &nodes).unwrap();
            assert_eq!(mesh.neighbors as usize, neighbors, "{count}");
            assert!(mesh.members.iter().all(|member| member.targets.len() == neighbors), "{count}");
        }
    }

    #[test]
    fn what_cannot_be_a_mesh_is_refused() {
        let icmp = Kind::Icmp { size: 56, dont_fragment: false };
        let refused = |asked: Asked, kind: &Kind, targets: &[String]| {
            check(&asked, kind, targets).map_err(|error| error.to_string()).unwrap_err()
        };
        let at = |port| Asked { port, ..Asked::default() };
        let some = |neighbors| Asked { neighbors: Some(neighbors), ..Asked::default() };
        assert!(refused(at(0), &icmp, &["a".to_owned()]).starts_with("targets: a mesh probes its own"));
        assert!(refused(at(80), &icmp, &[]).starts_with("port: 80 is given"));
        assert!(refused(at(0), &Kind::Tcp, &[]).starts_with("port: missing"));
        assert!(refused(at(0), &Kind::Gateway, &[]).starts_with("kind: a mesh is of icmp, tcp, udp or mtu"));
        for neighbors in [0, 65] {
            let reason = refused(some(neighbors), &icmp, &[]);
            assert_eq!(reason, format!("neighbors: {neighbors} is not within 1 and 64"));
        }
        assert!(check(&some(64), &icmp, &[]).is_ok() && check(&at(80), &Kind::Tcp, &[]).is_ok());
    }
}
