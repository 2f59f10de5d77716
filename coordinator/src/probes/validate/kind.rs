//! What only one kind takes.

use std::ops::RangeInclusive;

use lastseen_proto::limits::{
    PROBE_CA_BYTES, PROBE_HOPS, PROBE_MTU, PROBE_PAYLOAD_BYTES, PROBE_SEARCH, PROBE_SERVERS, PROBE_SIZE,
    PROBE_SIZES,
};
use lastseen_proto::target::{Host, Target, TargetError};
use lastseen_runtime::roots;

use super::super::model::Kind;
use super::super::throughput;
use crate::error::Error;
use crate::model::{MILLISECOND, SECOND};

/// What a kind does when the caller does not say.
pub(super) struct Defaults {
    /// Attempts.
    pub(super) count: u32,
    /// Between two of them.
    pub(super) interval_nanos: i64,
    /// Patience.
    pub(super) timeout_nanos: i64,
}

impl Defaults {
    /// Of this kind.
    pub(super) fn of(kind: &Kind) -> Self {
        let usual = Self { count: 5, interval_nanos: 200 * MILLISECOND, timeout_nanos: 2 * SECOND };
        match kind {
            // Every size that does not come through is waited for.
            Kind::PathMtu { .. } => {
                Self { count: 3, interval_nanos: 50 * MILLISECOND, timeout_nanos: 500 * MILLISECOND }
            }
            // Routers answer about one a second to each address (icmp_ratelimit).
            Kind::Trace { .. } => Self { count: 3, interval_nanos: SECOND, ..usual },
            // A kernel with many connections takes a while to list them.
            Kind::Table { .. } => Self { count: 1, timeout_nanos: 10 * SECOND, ..usual },
            Kind::Throughput(_) => Self { count: 1, ..usual },
            _ => usual,
        }
    }
}

/// Whether what only one kind takes is within its limits.
pub(super) fn check(kind: &Kind) -> Result<(), Error> {
    let check = |field: &'static str, given: u32, limits: &RangeInclusive<u32>, unit: &str| {
        let reason = format!("{given} is not within {} and {}{unit}", limits.start(), limits.end());
        if limits.contains(&given) { Ok(()) } else { Err(Error::invalid(field, reason)) }
    };
    match kind {
        Kind::Icmp { size, .. } => check("size", *size, &PROBE_SIZE, " bytes"),
        Kind::PathMtu { max_size: Some(size) } => check("max_size", *size, &PROBE_MTU, " bytes"),
        Kind::Trace { max_hops, .. } => check("max_hops", *max_hops, &PROBE_HOPS, ""),
        Kind::Path { sizes, .. } if !(1..=PROBE_SIZES).contains(&sizes.len()) => {
            let reason = format!("{} are not within 1 and {PROBE_SIZES}", sizes.len());
            Err(Error::invalid("sizes", reason))
        }
        Kind::Path { sizes, .. } => {
            sizes.iter().try_for_each(|size| check("sizes", *size, &PROBE_MTU, " bytes"))
        }
        Kind::Dns { servers, search, .. } => check_dns(servers, search),
        Kind::Throughput(asked) => throughput::check(asked),
        Kind::Http { ca_pem } if ca_pem.is_empty() => Ok(()),
        Kind::Http { ca_pem } if ca_pem.len() > PROBE_CA_BYTES => {
            let reason = format!("{} bytes are above the limit of {PROBE_CA_BYTES}", ca_pem.len());
            Err(Error::invalid("ca_pem", reason))
        }
        Kind::Http { ca_pem } => {
            roots::from_pem(ca_pem).map(drop).map_err(|reason| Error::invalid("ca_pem", reason))
        }
        Kind::Udp { payload } if payload.len() > PROBE_PAYLOAD_BYTES => {
            let reason = format!("{} bytes are above the limit of {PROBE_PAYLOAD_BYTES}", payload.len());
            Err(Error::invalid("payload", reason))
        }
        _ => Ok(()),
    }
}

fn check_dns(servers: &[String], search: &[String]) -> Result<(), Error> {
    for (field, given, most) in [("servers", servers, PROBE_SERVERS), ("search", search, PROBE_SEARCH)] {
        if given.len() > most {
            let reason = format!("{} are above the limit of {most}", given.len());
            return Err(Error::invalid(field, reason));
        }
    }
    for (field, text) in
        servers.iter().map(|text| ("servers", text)).chain(search.iter().map(|text| ("search", text)))
    {
        let target: Result<Target, TargetError> = text.parse();
        let target = target.map_err(|error| Error::invalid(field, error.to_string()))?;
        match (field, &target.host, target.port) {
            ("servers", Host::Name(name), _) => {
                let reason = format!("{name} is a name; give the server's address");
                return Err(Error::invalid(field, reason));
            }
            ("search", Host::Address(_), _) | ("search", _, Some(_)) => {
                return Err(Error::invalid(field, format!("{target} is no domain")));
            }
            _ => {}
        }
    }
    Ok(())
}
