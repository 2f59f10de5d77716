//! Tenants without a topology: which packets can be the same packet at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, OverlayKind};

use crate::evidence::flows::Flows;
use crate::fabric::domain::{Domain, SHARED, is_opaque};

/// Domains of bare packets that more than one tunnel carries: each point on its own.
const ALONE: Domain = 1 << 31;

type TunnelId = (OverlayKind, u32);

/// Where several tunnel ids were seen each is a tenant. Bare packets belong to the only one in which packets between
/// the same two addresses were seen.
#[derive(Debug)]
pub(crate) struct Tenancy {
    domains: BTreeMap<TunnelId, Domain>,
    carried: BTreeMap<(IpAddr, IpAddr), BTreeSet<Domain>>,
}

impl Tenancy {
    pub(crate) fn new(flows: &Flows) -> Self {
        let tunnelled = || flows.all.iter().filter_map(|flow| Some((&flow.key, tunnel(&flow.key)?)));
        let ids: BTreeSet<TunnelId> = tunnelled().map(|(_, id)| id).collect();
        let is_single = ids.len() <= 1;
        let number = |at: usize| if is_single { SHARED } else { at as Domain + 1 };
        let domains: BTreeMap<_, _> = ids.into_iter().enumerate().map(|(at, id)| (id, number(at))).collect();
        let mut carried: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (key, id) in tunnelled() {
            carried.entry(ends(key)).or_default().insert(domains[&id]);
        }
        Self { domains, carried }
    }

    /// The domain of a flow at a point.
    pub(crate) fn domain(&self, point: usize, flow: &FlowKey) -> Domain {
        if let Some(id) = tunnel(flow) {
            return self.domains.get(&id).copied().unwrap_or(SHARED);
        }
        let carriers = self.carried.get(&ends(flow));
        let mut carriers = carriers.into_iter().flatten();
        match (carriers.next(), carriers.next()) {
            (Some(_), Some(_)) => ALONE | point as Domain,
            (Some(&domain), None) => domain,
            _ => SHARED,
        }
    }
}

/// Tunnels that cannot be looked into separate nobody.
fn tunnel(key: &FlowKey) -> Option<TunnelId> {
    key.overlay.filter(|overlay| !is_opaque(overlay.kind)).map(|overlay| (overlay.kind, overlay.id))
}

fn ends(key: &FlowKey) -> (IpAddr, IpAddr) {
    (key.source.min(key.destination), key.source.max(key.destination))
}
