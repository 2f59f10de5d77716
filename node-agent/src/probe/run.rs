//! One run: every target at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use lastseen_proto::place::Place;
use lastseen_proto::target::{Host, Target};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::attempt::trouble;
use super::report::{Finding, Found};
use super::spec::{Aim, Family, Kind, Spec};
use super::{dns, gateway, http, icmp, mtu, neighbor, path, table, tcp, throughput, trace, udp};

/// A name that is not resolved by then is not.
const RESOLUTION: Duration = Duration::from_secs(5);

/// Probes every target from `begin` on, in the network namespace of this thread, which is that of `place`, as run `number`.
pub(super) async fn run(spec: &Spec, place: &Place, number: u64, begin: Instant) -> Vec<Found> {
    let targets = spec.targets_of(place).iter().map(|aim| probe(spec, place, aim, number, begin));
    join_all(targets).await.into_iter().flatten().collect()
}

async fn probe(spec: &Spec, place: &Place, aim: &Aim, number: u64, begin: Instant) -> Vec<Found> {
    match (&spec.kind, aim) {
        (_, Aim::Gateways) => gateway::run(spec, begin).await,
        (_, Aim::Table(table)) => vec![table::run(*table, &spec.schedule, begin).await],
        (Kind::Dns(questions), Aim::Host(target)) => dns::run(spec, questions, place, target, begin).await,
        (Kind::Throughput(flow), Aim::Host(target)) => {
            vec![throughput::run(spec, flow, place, target, number, begin).await]
        }
        (_, Aim::Host(target)) => vec![one(spec, aim, target, begin).await],
        (_, Aim::Url(url)) => vec![one(spec, aim, &url.server, begin).await],
    }
}

/// A target that has one address.
async fn one(spec: &Spec, aim: &Aim, server: &Target, begin: Instant) -> Found {
    let mut found = Found::nothing(aim.to_string(), String::new());
    match address(spec, server).await {
        Ok(address) => {
            found.address = Some(address);
            // Attempts that are late would come in a burst.
            if let Err(reason) = attempts(spec, aim, address, begin.max(Instant::now()), &mut found).await {
                found.reason = reason;
            }
        }
        Err(reason) => found.reason = reason,
    }
    found
}

/// Fills in what was found, or says why nothing was asked.
async fn attempts(
    spec: &Spec,
    aim: &Aim,
    to: IpAddr,
    begin: Instant,
    found: &mut Found,
) -> Result<(), String> {
    let port = if let Aim::Host(target) = aim { target.port.unwrap_or_default() } else { 0 };
    let (schedule, socket) = (&spec.schedule, SocketAddr::new(to, port));
    let attempts = match (&spec.kind, aim) {
        (Kind::Icmp { size, dont_fragment }, _) => {
            icmp::run(to, *size, *dont_fragment, schedule, begin).await
        }
        (Kind::Tcp, _) => Ok(tcp::run(socket, schedule, begin).await),
        (Kind::Udp { payload }, _) => udp::run(socket, payload.as_deref(), schedule, begin).await,
        (Kind::Trace { protocol, max_hops }, _) => {
            trace::run(socket, *protocol, *max_hops, schedule, begin).await
        }
        (Kind::Path(marks), _) => {
            let (attempts, source) = path::run(socket, marks, schedule, begin).await?;
            found.source = Some(source);
            Ok(attempts)
        }
        (Kind::PathMtu { max_size }, _) => {
            let (attempts, path) = mtu::run(to, *max_size, schedule, begin).await?;
            found.finding = path.map(Finding::PathMtu);
            Ok(attempts)
        }
        (Kind::Neighbor, _) => {
            let (attempts, neighbor) = neighbor::run(to, schedule, begin).await?;
            found.finding = Some(Finding::Neighbor(neighbor));
            Ok(attempts)
        }
        (Kind::Http { ca_pem }, Aim::Url(url)) => {
            let (attempts, page) = http::run(url, to, ca_pem, schedule, begin).await?;
            found.finding = page.map(Finding::Http);
            Ok(attempts)
        }
        (Kind::Http { .. } | Kind::Dns(_) | Kind::Gateway | Kind::Table(_) | Kind::Throughput(_), _) => {
            return Err("its target is of another kind".to_owned());
        }
    };
    found.attempts = attempts.map_err(|error| trouble(&error))?;
    Ok(())
}

/// The address to probe, if it may be.
pub(super) async fn address(spec: &Spec, target: &Target) -> Result<IpAddr, String> {
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
