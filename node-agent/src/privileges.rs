//! What this process may do, and what works without the rest.

use caps::{CapSet, Capability};
use lastseen_proto::v1;

use crate::capture::af_packet::AfPacket;

/// Everything the agent can or cannot do here, with what is missing and what to do about it.
pub fn report() -> Vec<v1::Capability> {
    let raw = missing(
        Capability::CAP_NET_RAW,
        "without it nothing can be captured; the node still reports its network. Add NET_RAW to the container or run \
         as root",
    );
    let admin = missing(
        Capability::CAP_NET_ADMIN,
        "without it connection tracking cannot be read: translations are recognised by the packets alone, and a filter \
         that names an address misses packets under their other one. Add NET_ADMIN to the container or run as root",
    );
    let ring = raw.clone().or_else(|| AfPacket::probe().err());
    vec![
        capability("capture", raw.clone()),
        capability("af_packet", ring.map(|reason| format!("{reason}; the pcap backend may still work"))),
        capability("pcap", raw),
        capability("conntrack", admin),
    ]
}

/// Logs what is missing, one line each.
pub fn log(report: &[v1::Capability]) {
    for capability in report.iter().filter(|capability| !capability.available) {
        tracing::warn!(capability = capability.name, reason = capability.reason, "not available");
    }
}

fn capability(name: &str, reason: Option<String>) -> v1::Capability {
    v1::Capability { name: name.to_owned(), available: reason.is_none(), reason: reason.unwrap_or_default() }
}

fn missing(capability: Capability, consequence: &str) -> Option<String> {
    let held = caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let name = capability.to_string();
    (!held).then(|| format!("{} is missing: {consequence}", name.trim_start_matches("CAP_")))
}
