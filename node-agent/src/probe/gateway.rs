//! The gateways of the default routes: as neighbours, and by echo.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use lastseen_proto::limits::PROBE_GATEWAYS;
use tokio::time::Instant;

use super::attempt::trouble;
use super::icmp::{self, Echo};
use super::report::{Finding, Found};
use super::spec::{Family, Spec};
use super::way::known;
use super::{neighbor, train};
use crate::interfaces::{Link, Snapshot, snapshot};

/// `RT_TABLE_MAIN`, include/uapi/linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;
/// Bytes behind the header of an echo, as `ping` has them.
const ECHO_BYTES: usize = 56;

/// Those of the network namespace of this thread.
pub(super) async fn run(spec: &Spec, begin: Instant) -> Vec<Found> {
    let nothing = |reason| vec![Found::nothing("gateways".to_owned(), reason)];
    let snapshot = match snapshot().await {
        Ok(snapshot) => snapshot,
        Err(error) => return nothing(error.to_string()),
    };
    let gateways = gateways(&snapshot, spec.family);
    if gateways.is_empty() {
        return nothing("there is no default route with a gateway".to_owned());
    }
    let begin = begin.max(Instant::now());
    let probes = gateways.iter().map(|(gateway, link)| one(spec, *gateway, link, &snapshot, begin));
    futures_util::future::join_all(probes).await
}

/// In the order of their routes, each once.
fn gateways(snapshot: &Snapshot, family: Family) -> Vec<(IpAddr, Link)> {
    let mut gateways: Vec<(IpAddr, Link)> = Vec::new();
    for route in &snapshot.topology.routes {
        let is_default = matches!(route.destination.as_str(), "0.0.0.0/0" | "::/0");
        if !is_default || route.table != TABLE_MAIN {
            continue;
        }
        let Ok(gateway) = route.gateway.parse::<IpAddr>() else { continue };
        let is_wanted = match family {
            Family::Any => true,
            Family::V4 => gateway.is_ipv4(),
            Family::V6 => gateway.is_ipv6(),
        };
        let link = snapshot.links.iter().find(|link| Some(link.interface.index) == route.output_index);
        let is_known = |(known, at): &(IpAddr, Link)| {
            *known == gateway && Some(at.interface.index) == route.output_index
        };
        if let Some(link) = link.filter(|_| is_wanted && !gateways.iter().any(is_known)) {
            gateways.push((gateway, link.clone()));
        }
    }
    gateways.truncate(PROBE_GATEWAYS);
    gateways
}

async fn one(spec: &Spec, gateway: IpAddr, link: &Link, snapshot: &Snapshot, begin: Instant) -> Found {
    let mut found = Found { address: Some(gateway), ..Found::nothing(gateway.to_string(), String::new()) };
    if let Err(reason) = spec.allowed.check_own(gateway) {
        return Found { reason, ..found };
    }
    let to = match gateway {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(address, 0, 0, link.interface.index))
        }
        address => SocketAddr::new(address, 0),
    };
    let socket = match icmp::open(to) {
        Ok(socket) => socket,
        Err(error) => return Found { reason: trouble(&error), ..found },
    };
    let echo = Echo::new(gateway.is_ipv6(), vec![ECHO_BYTES]);
    let echoes = train::run(&socket, &echo, gateway, &spec.schedule, begin);
    let entry = known(snapshot, link.interface.index, gateway);
    let asked = async {
        if !neighbor::has_neighbors(link.frames, &link.interface) {
            return None;
        }
        let source = socket.source().ok();
        neighbor::ask(&link.interface, source, gateway, entry, &spec.schedule, begin).await.ok()
    };
    let (echoes, neighbor) = tokio::join!(echoes, asked);
    found.attempts = echoes;
    found.finding = neighbor.map(|(_, neighbor)| Finding::Neighbor(neighbor));
    found
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1;

    use super::*;

    fn link(index: u32) -> Link {
        let interface = v1::Interface { index, name: format!("eth{index}"), ..Default::default() };
        Link { interface, frames: None }
    }

    fn route(destination: &str, gateway: &str, index: u32) -> v1::Route {
        let (destination, gateway) = (destination.to_owned(), gateway.to_owned());
        v1::Route { destination, gateway, output_index: Some(index), table: TABLE_MAIN, ..Default::default() }
    }

    fn found(routes: Vec<v1::Route>, family: Family) -> Vec<String> {
        let topology = v1::NodeTopology { routes, ..Default::default() };
        let snapshot = Snapshot { links: vec![link(1), link(2)], topology };
        gateways(&snapshot, family)
            .iter()
            .map(|(gateway, link)| format!("{gateway} {}", link.interface.name))
            .collect()
    }

    #[test]
    fn each_gateway_of_a_default_route_is_looked_at_once() {
        let routes = vec![
            route("10.0.0.0/8", "10.0.0.9", 1),
            route("0.0.0.0/0", "10.0.0.1", 1),
            route("0.0.0.0/0", "10.0.0.1", 1),
            route("0.0.0.0/0", "10.0.0.1", 2),
            route("0.0.0.0/0", "", 1),
            route("0.0.0.0/0", "10.0.0.2", 3),
            route("::/0", "fe80::1", 2),
            v1::Route { table: 100, ..route("0.0.0.0/0", "10.0.0.3", 1) },
        ];
        assert_eq!(found(routes.clone(), Family::Any), ["10.0.0.1 eth1", "10.0.0.1 eth2", "fe80::1 eth2"]);
        assert_eq!(found(routes.clone(), Family::V6), ["fe80::1 eth2"]);
        assert_eq!(found(routes, Family::V4), ["10.0.0.1 eth1", "10.0.0.1 eth2"]);
    }

    #[test]
    fn no_more_gateways_are_looked_at_than_the_limit() {
        let routes = (0..=PROBE_GATEWAYS).map(|n| route("0.0.0.0/0", &format!("10.0.0.{n}"), 1)).collect();
        assert_eq!(found(routes, Family::Any).len(), PROBE_GATEWAYS);
    }
}
