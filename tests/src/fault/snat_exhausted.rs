//! The sender's node masquerades datagrams into a handful of ports, and other connections hold them all: what begins
//! now is lost between `cni0` and `flannel.1`.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use super::{Cast, Injected};
use crate::lab::counter;
use crate::lab::netns::Netns;
use crate::lab::node::OVERLAY;
use crate::traffic::Conversation;

/// The destination port that all share: only then do they compete for source ports.
const PORT: u16 = 7353;
/// What the masquerade may use.
const PORTS: std::ops::RangeInclusive<u16> = 4_000..=4_003;
/// How long an unanswered datagram holds its port, seconds.
const TIMEOUT: &str = "net/netfilter/nf_conntrack_udp_timeout";

pub(super) fn aim(conversation: &mut Conversation<'_>) {
    conversation.port = PORT;
}

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    let (pod, to) = (cast.sender.plan.pod, SocketAddr::new(cast.receiver.plan.pod.into(), PORT));
    let (first, last) = (PORTS.start(), PORTS.end());
    netns.sysctl(TIMEOUT, "120")?;
    netns.nft(&format!(
        "table ip lastseen_nat {{\n\
         chain leaving {{\n\
         type nat hook postrouting priority srcnat;\n\
         oifname {OVERLAY} ip saddr {pod} ip daddr {} udp dport {PORT} masquerade to :{first}-{last}\n\
         }}\n\
         }}\n",
        to.ip()
    ))?;
    occupy(&cast.sender.pod, pod.into(), to)?;
    let before = counter::conntrack(netns, "insert_failed")?;
    Ok(Injected::new(
        move || Ok(counter::conntrack(netns, "insert_failed")? - before),
        move || {
            netns.nft("delete table ip lastseen_nat\n")?;
            netns.sysctl(TIMEOUT, "30")
        },
    ))
}

/// One datagram per port there is.
fn occupy(pod: &Netns, from: std::net::IpAddr, to: SocketAddr) -> Result<()> {
    pod.enter(|| {
        PORTS.zip(20_000..).try_for_each(|(_, port)| {
            let socket = UdpSocket::bind((from, port)).with_context(|| format!("bind UDP {from}:{port}"))?;
            socket.send_to(b"held", to).map(drop).with_context(|| format!("send to {to}"))
        })
    })
}
