//! Probes and their results for people.

mod found;
mod mesh;
pub mod table;
mod throughput;
mod trace;

use std::net::IpAddr;

use lastseen_proto::probed::Summary;
use lastseen_proto::table::NodeTable;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind;

use crate::output::table::Table;
use crate::output::{self, names, units};

/// A probe: what it does, what became of its parts, and what the newest runs found.
pub fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let mut text = output::facts(&facts(probe));
    let failed = failed(probe);
    if !failed.is_empty() {
        text.push('\n');
        text.push_str(&failed);
    }
    if !probe.reports.is_empty() {
        text.push('\n');
        text.push_str(&match spec_kind(probe) {
            _ if spec_mesh(probe).is_some() => mesh::text(probe, is_wide),
            Some(Kind::Trace(_)) => trace::text(probe),
            Some(Kind::Table(_)) => table::text(probe, is_wide),
            Some(Kind::Throughput(_)) => throughput::text(probe, is_wide),
            _ => found::text(probe, is_wide),
        });
        if probe.reports.iter().any(|report| report.is_cut) {
            text.push_str("a report was too large: what it found beyond attempts is left out; probe fewer targets at once\n");
        }
        if probe.reports_omitted {
            text.push_str("there is more than one answer holds; ask for fewer --runs\n");
        }
    }
    text
}

fn spec_kind(probe: &v1::Probe) -> Option<&Kind> {
    probe.spec.as_ref()?.kind.as_ref()
}

fn spec_mesh(probe: &v1::Probe) -> Option<&v1::Mesh> {
    probe.spec.as_ref()?.mesh.as_ref()
}

fn facts(probe: &v1::Probe) -> Vec<(&'static str, String)> {
    let spec = probe.spec.clone().unwrap_or_default();
    let runs = probe.parts.iter().map(|part| part.runs).max().unwrap_or_default();
    vec![
        ("probe", probe.id.clone()),
        ("name", spec.name.clone()),
        ("kind", kind(&spec)),
        ("state", names::probe_state(probe.state)),
        ("start", units::instant(probe.start.as_ref())),
        ("every", units::span(spec.every.as_ref())),
        ("runs", if spec.every.is_some() { runs.to_string() } else { String::new() }),
        ("attempts", attempts(&spec)),
        ("created by", probe.created_by.clone()),
        ("stopped by", probe.stopped_by.clone()),
    ]
}

/// `icmp, 56 bytes`; `mesh of tcp to port 80, 8 others each`.
pub fn kind(spec: &v1::ProbeSpec) -> String {
    let Some(mesh) = &spec.mesh else { return kind_alone(spec) };
    let port = if mesh.port == 0 { String::new() } else { format!(" to port {}", mesh.port) };
    let network = match mesh.network() {
        v1::HostNetwork::Underlay => "",
        v1::HostNetwork::Overlay => " over the overlay",
    };
    format!("mesh of {}{port}{network}, {} others each", kind_alone(spec), mesh.neighbors.unwrap_or_default())
}

fn kind_alone(spec: &v1::ProbeSpec) -> String {
    match &spec.kind {
        Some(Kind::Icmp(icmp)) => {
            let fragments = if icmp.dont_fragment { ", not to be fragmented" } else { "" };
            format!("icmp, {} bytes{fragments}", icmp.size.unwrap_or_default())
        }
        Some(Kind::Tcp(_)) => "tcp".to_owned(),
        Some(Kind::Udp(udp)) if udp.payload.is_empty() => "udp".to_owned(),
        Some(Kind::Udp(udp)) => format!("udp, {} bytes", udp.payload.len()),
        Some(Kind::Dns(dns)) => {
            let record = match dns.record_type() {
                v1::DnsRecordType::DnsAaaa => "AAAA",
                v1::DnsRecordType::DnsSrv => "SRV",
                v1::DnsRecordType::DnsPtr => "PTR",
                v1::DnsRecordType::DnsA | v1::DnsRecordType::DnsRecordUnspecified => "A",
            };
            format!("dns, {record}{}", if dns.tcp { " over TCP" } else { "" })
        }
        Some(Kind::Http(_)) => "http".to_owned(),
        Some(Kind::PathMtu(_)) => "mtu".to_owned(),
        Some(Kind::Trace(trace)) => match trace.protocol() {
            v1::TraceProtocol::TraceUdp => "trace, udp".to_owned(),
            v1::TraceProtocol::TraceTcp => "trace, tcp".to_owned(),
            v1::TraceProtocol::TraceIcmp | v1::TraceProtocol::Unspecified => "trace, icmp".to_owned(),
        },
        Some(Kind::Path(_)) => "path".to_owned(),
        Some(Kind::Neighbor(_)) => "neighbor".to_owned(),
        Some(Kind::Gateway(_)) => "gateway".to_owned(),
        Some(Kind::Table(table)) => {
            let known = NodeTable::from_number(table.table);
            format!("table, {}", known.map_or("of a newer version", NodeTable::name))
        }
        Some(Kind::Throughput(asked)) => throughput::kind(asked),
        None => "of a newer version".to_owned(),
    }
}

fn attempts(spec: &v1::ProbeSpec) -> String {
    if matches!(spec.kind, Some(Kind::Throughput(_))) {
        return String::new();
    }
    let (interval, timeout) = (units::span(spec.interval.as_ref()), units::span(spec.timeout.as_ref()));
    if let Some(Kind::Table(_)) = spec.kind {
        return format!("1, read within {timeout}");
    }
    let what = match spec.kind {
        Some(Kind::Trace(_)) => " rounds",
        Some(Kind::PathMtu(_)) => " of each size",
        _ => "",
    };
    format!(
        "{}{what}, one every {interval}, answered within {timeout} or not",
        spec.count.unwrap_or_default()
    )
}

/// Whence, as it is written on the command line: a node, a node with a network namespace, or an address.
pub fn source_of(text: &str) -> v1::ProbeSource {
    let is_address = text.parse::<IpAddr>().is_ok();
    let (node, netns) = text.split_once(':').filter(|_| !is_address).unwrap_or((text, ""));
    v1::ProbeSource { node: node.to_owned(), netns: netns.to_owned() }
}

/// A source as it is written on the command line.
pub fn source(source: Option<&v1::ProbeSource>) -> String {
    match source {
        Some(source) if source.netns.is_empty() => source.node.clone(),
        Some(source) => format!("{}:{}", source.node, source.netns),
        None => String::new(),
    }
}

/// Share without an answer; empty: nothing was sent.
fn lost(summary: &Summary) -> String {
    summary.lost().map_or_else(String::new, units::percent)
}

/// Sources that could not do it.
fn failed(probe: &v1::Probe) -> String {
    let mut table = Table::new(&["SOURCE", "STATE", "REASON"]);
    let mut is_empty = true;
    for part in probe.parts.iter().filter(|part| !part.reason.is_empty()) {
        is_empty = false;
        table.row([source(part.source.as_ref()), names::probe_state(part.state), part.reason.clone()]);
    }
    if is_empty { String::new() } else { table.text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_node_a_namespace_of_one_or_an_address() {
        for (text, node, netns) in [
            ("node-a", "node-a", ""),
            ("node-a:cni-1", "node-a", "cni-1"),
            ("node-a:@fd00::1", "node-a", "@fd00::1"),
            ("10.244.1.10", "10.244.1.10", ""),
            ("fd00::1", "fd00::1", ""),
        ] {
            assert_eq!(source_of(text), v1::ProbeSource { node: node.into(), netns: netns.into() });
        }
    }
}
