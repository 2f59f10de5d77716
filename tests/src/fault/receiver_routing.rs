//! The receiver's routing refuses what comes out of the tunnel: lost between `flannel.1` and `cni0`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};
use crate::lab::netns::Netns;
use crate::lab::node::{BRIDGE, NIC, OVERLAY};

const CARRIER_PATIENCE: Duration = Duration::from_secs(5);
/// `BR_STATE_DISABLED` and `BR_STATE_FORWARDING` of `if_bridge.h`.
const DISABLED: &str = "0";
const FORWARDING: &str = "3";

/// Forwarding is off on the tunnel device.
pub(super) fn forwarding_off(cast: Cast<'_>) -> Result<Injected<'_>> {
    let netns = &cast.receiver.netns;
    let counting = counting(cast)?;
    let key = format!("net/ipv4/conf/{OVERLAY}/forwarding");
    netns.sysctl(&key, "0")?;
    Ok(counting.undone_by(move || netns.sysctl(&key, "1")))
}

/// Reverse path filtering is strict, and the way back to the sender's pods leads elsewhere.
pub(super) fn reverse_path(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, sender) = (&cast.receiver.netns, &cast.sender.plan);
    let counting = counting(cast)?;
    let back = format!("{}/24 via", sender.pods);
    netns.ip(&format!("route replace {back} {} dev {NIC} onlink\n", sender.underlay))?;
    let key = format!("net/ipv4/conf/{OVERLAY}/rp_filter");
    netns.sysctl(&key, "1")?;
    Ok(counting.undone_by(move || {
        netns.sysctl(&key, "0")?;
        netns.ip(&format!("route replace {back} {} dev {OVERLAY} onlink\n", sender.pods))
    }))
}

/// A route of `kind`, such as `blackhole`, for the pod's address.
pub(super) fn special_route<'lab>(cast: Cast<'lab>, kind: &str) -> Result<Injected<'lab>> {
    let netns = &cast.receiver.netns;
    let counting = counting(cast)?;
    let route = format!("{kind} {}/32\n", cast.receiver.plan.pod);
    netns.ip(&format!("route add {route}"))?;
    Ok(counting.undone_by(move || netns.ip(&format!("route del {route}"))))
}

/// Nobody answers for the pod's address any more.
pub(super) fn pod_gone(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, pod) = (&cast.receiver.netns, &cast.receiver.pod);
    let counting = counting(cast)?;
    pod.nft(
        "table arp lastseen_lab {\n\
         chain deaf { type filter hook input priority 0; policy drop; }\n\
         chain mute { type filter hook output priority 0; policy drop; }\n\
         }\n",
    )?;
    netns.ip(&format!("neigh flush dev {BRIDGE} to {}\n", cast.receiver.plan.pod))?;
    Ok(counting.undone_by(move || pod.nft("delete table arp lastseen_lab\n")))
}

/// The host side of the pod's veth is down, and with it the bridge, which has no other port.
pub(super) fn veth_down(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, veth) = (&cast.receiver.netns, &cast.receiver.plan.veth);
    let counting = counting(cast)?;
    netns.ip(&format!("link set {veth} down\n"))?;
    wait_for_carrier(netns, "DOWN")?;
    Ok(counting.undone_by(move || {
        netns.ip(&format!("link set {veth} up\n"))?;
        wait_for_carrier(netns, "UP")
    }))
}

/// The bridge's only port may not forward, so the bridge loses its carrier.
pub(super) fn port_disabled(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, veth) = (&cast.receiver.netns, cast.receiver.plan.veth.as_str());
    let counting = counting(cast)?;
    let set = move |state| netns.run("bridge", &["link", "set", "dev", veth, "state", state]).map(drop);
    // What the pod says by itself would be lost as well, and counted by nobody.
    let solicit = move |times| cast.receiver.pod.sysctl("net/ipv6/conf/eth0/router_solicitations", times);
    solicit("0")?;
    set(DISABLED)?;
    // It also asks for neighbours that it has talked to.
    cast.receiver.pod.run("ip", &["-6", "neigh", "flush", "dev", "eth0"])?;
    wait_for_carrier(netns, "DOWN")?;
    Ok(counting.undone_by(move || {
        set(FORWARDING)?;
        wait_for_carrier(netns, "UP")?;
        solicit("-1")
    }))
}

/// The kernel takes up to a second to pass on to the bridge that its only port went or came back; until then packets still
/// leave by the bridge, or still do not.
fn wait_for_carrier(netns: &Netns, state: &str) -> Result<()> {
    let deadline = Instant::now() + CARRIER_PATIENCE;
    while !netns.run("ip", &["link", "show", "dev", BRIDGE])?.contains(&format!("state {state}")) {
        if Instant::now() > deadline {
            bail!("{BRIDGE} in {} does not come to be {state} with its port", netns.name());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn counting(cast: Cast<'_>) -> Result<Injected<'_>> {
    Rule::counting("hook prerouting priority -300", &to_receiver(cast, "iifname flannel.1"))
        .inject(&cast.receiver.netns)
}
