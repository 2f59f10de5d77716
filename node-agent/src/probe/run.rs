//! One run: every target at once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::target::{Host, Target};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::attempt::{Attempt, trouble};
use super::report::Found;
use super::spec::{Family, Kind, Spec};
use super::{icmp, tcp, udp};

/// A name that is not resolved by then is not.
const RESOLUTION: Duration = Duration::from_secs(5);

/// Probes every target from `begin` on, in the network namespace of this thread.
pub(super) async fn run(spec: &Arc<Spec>, begin: Instant) -> Vec<Found> {
    let mut targets = JoinSet::new();
    for (number, target) in spec.targets.iter().cloned().enumerate() {
        let spec = spec.clone();
        targets.spawn(async move { (number, probe(&spec, &target, begin).await) });
    }
    let mut found = targets.join_all().await;
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, found)| found).collect()
}

async fn probe(spec: &Spec, target: &Target, begin: Instant) -> Found {
    let mut found =
        Found { target: target.to_string(), address: None, reason: String::new(), attempts: Vec::new() };
    match address(spec, target).await {
        Ok(address) => {
            found.address = Some(address);
            // Attempts that are late would come in a burst.
            let attempts = attempts(spec, address, target.port, begin.max(Instant::now())).await;
            match attempts {
                Ok(attempts) => found.attempts = attempts,
                Err(error) => found.reason = trouble(&error),
            }
        }
        Err(reason) => found.reason = reason,
    }
    found
}

async fn attempts(spec: &Spec, to: IpAddr, port: Option<u16>, begin: Instant) -> io::Result<Vec<Attempt>> {
    let (schedule, socket) = (&spec.schedule, SocketAddr::new(to, port.unwrap_or_default()));
    match &spec.kind {
        Kind::Icmp { size, dont_fragment } => icmp::run(to, *size, *dont_fragment, schedule, begin).await,
        Kind::Tcp => Ok(tcp::run(socket, schedule, begin).await),
        Kind::Udp { payload } => udp::run(socket, payload.as_deref(), schedule, begin).await,
    }
}

/// The address to probe, if it may be.
async fn address(spec: &Spec, target: &Target) -> Result<IpAddr, String> {
    let address = match &target.host {
        Host::Address(address) => *address,
        Host::Name(name) => resolve(name, spec.family).await?,
    };
    spec.allowed.check(address)?;
    Ok(address)
}

/// By the resolver of the agent's host, asked from the namespace of this thread.
async fn resolve(name: &str, family: Family) -> Result<IpAddr, String> {
    let looking = timeout(RESOLUTION, lookup_host((name, 0)));
    let found =
        looking.await.map_err(|_| format!("{name} is not resolved within {} s", RESOLUTION.as_secs()))?;
    let found = found.map_err(|error| format!("{name} does not resolve: {error}"))?;
    let of = match family {
        Family::Any => "",
        Family::V4 => " of IPv4",
        Family::V6 => " of IPv6",
    };
    family.pick(found.map(|address| address.ip())).ok_or_else(|| format!("{name} has no address{of}"))
}
