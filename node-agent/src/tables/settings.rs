//! Settings that decide about forwarding: those of sysctl(8) for the network namespace of this thread, which is the one
//! that /proc/sys/net shows (`net_ctl_root`, `net/sysctl_net.c`).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::listing::Listing;

pub(super) const COLUMNS: [&str; 2] = ["setting", "value"];

const ROOT: &str = "/proc/sys";
/// No value is longer, but lists of ports.
const VALUE_BYTES: u64 = 4_096;

/// Those that there is one of.
const GLOBAL: [&str; 26] = [
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/ip_forward_use_pmtu",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv6/fib_multipath_hash_policy",
    "net/ipv4/icmp_echo_ignore_all",
    "net/ipv4/icmp_ratelimit",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh1",
    "net/ipv6/neigh/default/gc_thresh2",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_acct",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
    "net/core/somaxconn",
    "net/core/netdev_max_backlog",
];

/// Those of each interface, and those for all and for new ones.
const OF_INTERFACES: [(&str, &[&str]); 2] = [
    (
        "net/ipv4/conf",
        &[
            "forwarding",
            "rp_filter",
            "accept_local",
            "proxy_arp",
            "arp_ignore",
            "route_localnet",
            "src_valid_mark",
        ],
    ),
    ("net/ipv6/conf", &["forwarding", "disable_ipv6", "accept_ra", "proxy_ndp"]),
];

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    let mut refused = 0_u64;
    let mut add = |listing: &mut Listing, path: &str, is_expected: bool| {
        let value = match value(path) {
            Ok(value) => value,
            // An interface that went away meanwhile, or a kernel without the setting.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_expected => return,
            Err(error) => {
                refused += u64::from(error.kind() != io::ErrorKind::NotFound);
                String::new()
            }
        };
        listing.row(|_| [name(path), value]);
    };
    for path in GLOBAL {
        add(&mut listing, path, true);
    }
    for (folder, settings) in OF_INTERFACES {
        for interface in interfaces(folder) {
            if listing.is_late("settings of interfaces") {
                return Ok(listing);
            }
            for setting in settings {
                add(&mut listing, &format!("{folder}/{interface}/{setting}"), false);
            }
        }
    }
    if refused > 0 {
        listing.note(format!("{refused} settings may not be read by the agent; their values are empty"));
    }
    if listing.rows.iter().all(|row| row[1].is_empty()) {
        return Err(format!("settings cannot be read: {ROOT}/net is not there; mount /proc for the agent"));
    }
    Ok(listing)
}

/// Those that the namespace has, `all` and `default` first.
fn interfaces(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| (name != "all", name != "default", name.clone()));
    names
}

/// As sysctl(8) writes it: dots between the parts, and slashes for dots within.
fn name(path: &str) -> String {
    let swap = |character| match character {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    path.chars().map(swap).collect()
}

/// The value of a setting by its path below /proc/sys, in one line.
pub(super) fn value(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(Path::new(ROOT).join(path))?.take(VALUE_BYTES).read_to_string(&mut text)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_with_a_dot_is_written_as_sysctl_does() {
        assert_eq!(name("net/ipv4/conf/eth0.100/rp_filter"), "net.ipv4.conf.eth0/100.rp_filter");
    }

    #[test]
    fn values_are_those_of_the_kernel() {
        let range = value("net/ipv4/ip_local_port_range").unwrap();
        assert_eq!(range.split(' ').count(), 2, "{range}");
        assert_eq!(interfaces("net/ipv4/conf")[..2], ["all", "default"]);
        assert_eq!(value("net/ipv4/no_such").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
