//! The sender's node puts a pod's address in the place of a service's, and then all of it is gone before any point sees
//! it under its new addresses: lost between `cni0` and `flannel.1`.

use anyhow::Result;
use serde::Deserialize;

use super::nat::{self, Way};
use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::{BRIDGE, OVERLAY};

/// What swallows the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hole {
    /// There is no route. Connection tracking forgets a connection whose first packet does not leave the node.
    Routing,
    /// The overlay's neighbour is not known, which comes after all that connection tracking does.
    Neighbor,
}

const BRIDGED: &str = "net/bridge/bridge-nf-call-iptables";

/// The bridge leaves translation to the node's routing, so that `cni0` is still before it.
pub(super) fn inject(cast: Cast<'_>, way: Way, at: Hole) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    netns.sysctl(BRIDGED, "0")?;
    let counting = count(cast, way, at)?;
    nat::translate(netns, cast, way)?;
    let [break_it, mend_it] = commands(cast, at);
    netns.ip(&break_it)?;
    Ok(counting.undone_by(move || {
        netns.ip(&mend_it)?;
        forget(netns)
    }))
}

/// Counts what has the new addresses.
fn count(cast: Cast<'_>, way: Way, at: Hole) -> Result<Injected<'_>> {
    let [from, to] = nat::beyond(cast, way);
    let (hook, met) = match at {
        Hole::Routing => ("hook prerouting priority 0", format!("iifname {BRIDGE}")),
        Hole::Neighbor => ("hook postrouting priority 300", format!("oifname {OVERLAY}")),
    };
    Rule::counting(hook, &format!("{met} ip saddr {from} ip daddr {to}")).inject(&cast.sender.netns)
}

/// What makes the hole, and what fills it.
fn commands(cast: Cast<'_>, at: Hole) -> [String; 2] {
    let peer = &cast.receiver.plan;
    let (pods, mac) = (peer.pods, &peer.overlay_mac);
    match at {
        Hole::Routing => {
            let route = format!("{pods}/24 via {pods} dev {OVERLAY} onlink");
            [format!("route del {pods}/24\n"), format!("route add {route}\n")]
        }
        Hole::Neighbor => {
            let entry = format!("{pods} lladdr {mac} dev {OVERLAY}");
            [format!("neigh del {entry}\n"), format!("neigh replace {entry} nud permanent\n")]
        }
    }
}

fn forget(netns: &Netns) -> Result<()> {
    netns.nft("delete table ip lastseen_nat\n")?;
    netns.sysctl(BRIDGED, "1")
}
