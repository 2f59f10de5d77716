//! The gateways of the default routes: as neighbours, and by echo.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use lastseen_proto::limits::PROBE_GATEWAYS;
use tokio::time::Instant;

use super::attempt::trouble;
use super::icmp::{self, Echo};
use super::report::{Finding, Found};
use super::spec::{Family, Spec};
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
    let echo = Echo::new(gateway.is_ipv6(), ECHO_BYTES);
    let echoes = train::run(&socket, &echo, gateway, &spec.schedule, begin);
    let known = snapshot.topology.neighbors.iter();
    let mut known = known.filter(|entry| entry.index == link.interface.index);
    let entry = known.find(|entry| entry.address == gateway.to_string());
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
