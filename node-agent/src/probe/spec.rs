//! A probe as this node works with it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use lastseen_proto::limits::{THROUGHPUT_TOKEN_BYTES, THROUGHPUT_UDP_RATE};
use lastseen_proto::place::Place;
use lastseen_proto::table::NodeTable;
use lastseen_proto::target::Target;
use lastseen_proto::url::WebUrl;

/// How it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ICMP echo with so many bytes behind its header.
    Icmp {
        /// Bytes.
        size: usize,
        /// Neither routers nor this host may fragment it.
        dont_fragment: bool,
    },
    /// A connection.
    Tcp,
    /// A datagram.
    Udp {
        /// What it holds; absent: what tells it from all others.
        payload: Option<Vec<u8>>,
    },
    /// A question to name servers.
    Dns(Questions),
    /// GET.
    Http {
        /// Certificates that end a chain, PEM; empty: those of the web.
        ca_pem: String,
    },
    /// The largest packet that comes through.
    PathMtu {
        /// Nothing larger is tried, bytes with the IP header.
        max_size: Option<u16>,
    },
    /// Routers on the way.
    Trace {
        /// How the packets look.
        protocol: TraceProtocol,
        /// Routers at most.
        max_hops: u8,
    },
    /// Packets that a capture of the same time can follow.
    Path(Marks),
    /// Who has an address on the link.
    Neighbor,
    /// The gateways of the default routes.
    Gateway,
    /// A table of the kernel.
    Table(NodeTable),
    /// How much comes through to another source.
    Throughput(Flow),
}

/// What one source sends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// By what.
    pub protocol: FlowProtocol,
    /// How long.
    pub duration: Duration,
    /// Bits of payload a second; absent: as many as go, of datagrams the usual.
    pub bits_per_second: Option<u64>,
    /// It ends with these.
    pub max_bytes: u64,
    /// What tells it from all else.
    pub token: Token,
    /// The place that receives, if it is on this node. Every other one sends.
    pub receiver: Option<Place>,
    /// Addresses the sender may come from, its own first; none: any.
    pub senders: Vec<IpAddr>,
}

/// How data is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowProtocol {
    /// In one connection.
    Tcp,
    /// In numbered datagrams.
    Udp,
}

/// A secret of two agents, which no log has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; THROUGHPUT_TOKEN_BYTES]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Flow {
    /// Bits a second of datagrams.
    pub fn udp_rate(&self) -> u64 {
        self.bits_per_second.unwrap_or(THROUGHPUT_UDP_RATE)
    }

    /// Datagrams of so many bytes that the rate, the time and the bytes allow.
    pub fn most_datagrams(&self, bytes: usize) -> u64 {
        let in_time = u128::from(self.udp_rate()) * self.duration.as_nanos() / (8 * 1_000_000_000);
        let most = in_time.min(self.max_bytes.into()) / bytes.max(1) as u128;
        u64::try_from(most).unwrap_or(u64::MAX)
    }
}

/// What name servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Empty: those of resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// What for.
    pub record_type: RecordType,
    /// Where names are looked for; empty: as resolv.conf says.
    pub search: Vec<Name>,
    /// Over TCP from the start.
    pub tcp: bool,
}

/// What marks packets that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// How they look.
    pub protocol: TraceProtocol,
    /// Bytes with the IP header, one after the other and then again. TCP has one of its own.
    pub sizes: Vec<u16>,
    /// Neither routers nor this host may fragment them.
    pub dont_fragment: bool,
    /// Of UDP and TCP.
    pub source_port: u16,
}

/// How packets of a trace look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceProtocol {
    /// Echo requests.
    Icmp,
    /// Datagrams.
    Udp,
    /// SYN.
    Tcp,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A host, or a port of it.
    Host(Target),
    /// A page.
    Url(WebUrl),
    /// Whoever is the gateway.
    Gateways,
    /// What the kernel has.
    Table(NodeTable),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(target) => target.fmt(f),
            Self::Url(url) => url.fmt(f),
            Self::Gateways => f.write_str("gateways"),
            Self::Table(table) => table.fmt(f),
        }
    }
}

/// How late a run of several may begin.
const LATE_NANOS: i64 = 1_000_000_000;

/// When it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Begin of run 0 on `CLOCK_MONOTONIC`, in nanoseconds.
    pub start: i64,
    /// From one run to the next; absent: there is one.
    pub every: Option<Duration>,
    /// Runs before this one were reported.
    pub first_run: u64,
    /// Attempts at each target in a run.
    pub count: u16,
    /// Between the beginnings of two attempts.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Schedule {
    /// Begin of a run on `CLOCK_MONOTONIC`, in nanoseconds.
    pub fn begin(&self, run: u64) -> i64 {
        let every = self.every.map_or(0, |every| every.as_nanos() as i64);
        self.start.saturating_add(every.saturating_mul(i64::try_from(run).unwrap_or(i64::MAX)))
    }

    /// The first run from `from` on that can begin in time, `now` being on `CLOCK_MONOTONIC`: other sources make it at the
    /// same time. A single run is never too late.
    pub fn next(&self, from: u64, now: i64) -> Option<u64> {
        let Some(every) = self.every else { return (from == 0).then_some(0) };
        let every = every.as_nanos().max(1) as i64;
        let late = now.saturating_sub(self.start).saturating_sub(LATE_NANOS);
        let in_time = u64::try_from(late.div_euclid(every).saturating_add(1)).unwrap_or(0);
        Some(from.max(in_time))
    }
}

/// Which addresses a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 where there is one.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Which of the addresses of a name is probed.
    pub fn pick(self, addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        let mut addresses: Vec<IpAddr> = addresses.collect();
        match self {
            Self::Any => addresses.sort_by_key(IpAddr::is_ipv6),
            Self::V4 => addresses.retain(IpAddr::is_ipv4),
            Self::V6 => addresses.retain(IpAddr::is_ipv6),
        }
        addresses.first().copied()
    }
}

/// Where probes may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// These networks only. None: everywhere but to link-local addresses and what clouds keep their secrets behind.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Why an address may not be probed.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        self.check_own(address)?;
        let address = address.to_canonical();
        if self.0.is_empty() && is_guarded(address) {
            return Err(format!(
                "{address} is link-local or a metadata service; an operator allows it by probe-networks in the \
                 coordinator's policy file"
            ));
        }
        Ok(())
    }

    /// The same of an address that the node's own settings name, such as a gateway or a name server: it may be
    /// link-local.
    pub fn check_own(&self, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        if self.0.is_empty() || self.0.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        Err(format!("{address} is in no network of probe-networks in the coordinator's policy file"))
    }
}

/// Metadata services that are not link-local: Azure's and Alibaba's.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
/// AWS's and Google's.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Link-local addresses (RFC 3927, RFC 4291 §2.5.6), behind which clouds have metadata services, and their others.
fn is_guarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || METADATA_V4.contains(&address),
        IpAddr::V6(address) => address.is_unicast_link_local() || METADATA_V6.contains(&address),
    }
}

/// A probe with its sources on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its id.
    pub probe: String,
    /// Whence.
    pub places: Vec<Place>,
    /// Whither; of a mesh none.
    pub targets: Vec<Aim>,
    /// Of a mesh: whither from each place.
    pub mesh: BTreeMap<Place, Vec<Aim>>,
    /// How.
    pub kind: Kind,
    /// When.
    pub schedule: Schedule,
    /// For names.
    pub family: Family,
    /// What policy says.
    pub allowed: Allowed,
}

impl Spec {
    /// Whither from a place.
    pub fn targets_of(&self, place: &Place) -> &[Aim] {
        self.mesh.get(place).unwrap_or(&self.targets)
    }

    /// Whether `told` is this probe, perhaps with other times and with fewer places, because some have ended.
    pub fn is_like(&self, told: &Self) -> bool {
        let (schedule, places, mesh) = (self.schedule, self.places.clone(), self.mesh.clone());
        told.places.iter().all(|place| places.contains(place))
            && told.mesh.iter().all(|(place, aims)| mesh.get(place) == Some(aims))
            && told.mesh.is_empty() == mesh.is_empty()
            && Schedule { start: schedule.start, first_run: schedule.first_run, ..told.schedule } == schedule
            && Self { places, mesh, schedule, ..told.clone() } == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(networks: &[&str]) -> Allowed {
        Allowed::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn metadata_services_are_refused_unless_they_are_allowed() {
        let may = |allowed: &Allowed, address: &str| allowed.check(address.parse().unwrap()).is_ok();
        for guarded in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "168.63.129.16",
        ] {
            assert!(!may(&Allowed::default(), guarded), "{guarded}");
            assert!(!may(&allowed(&["10.0.0.0/8"]), guarded), "{guarded}");
        }
        for free in ["10.0.0.1", "127.0.0.1", "8.8.8.8", "fd00:ec2::253", "2001:db8::1"] {
            assert!(may(&Allowed::default(), free), "{free}");
        }
        let some = allowed(&["10.0.0.0/8", "169.254.169.254/32", "fd00::/8"]);
        for (address, is_allowed) in [
            ("10.9.9.9", true),
            ("::ffff:10.9.9.9", true),
            ("169.254.169.254", true),
            ("11.0.0.1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(may(&some, address), is_allowed, "{address}");
        }
    }

    #[test]
    fn runs_that_begin_late_are_left_out_but_for_a_single_one() {
        let second = 1_000_000_000;
        let once = Schedule {
            start: 10 * second,
            every: None,
            first_run: 0,
            count: 1,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        assert_eq!((once.next(0, 0), once.next(0, 99 * second), once.next(1, 0)), (Some(0), Some(0), None));
        let often = Schedule { every: Some(Duration::from_secs(5)), ..once };
        assert_eq!(often.begin(3), 25 * second);
        for (from, now, next) in [(0, 0, 0), (0, 10, 0), (0, 12, 1), (0, 16, 2), (0, 29, 4), (7, 29, 7)] {
            assert_eq!(often.next(from, now * second), Some(next), "{from} {now}");
        }
    }

    #[test]
    fn datagrams_are_bounded_by_rate_time_and_bytes() {
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            duration: Duration::from_secs(2),
            bits_per_second: None,
            max_bytes: u64::MAX,
            token: Token([0; THROUGHPUT_TOKEN_BYTES]),
            receiver: None,
            senders: Vec::new(),
        };
        assert_eq!((flow.udp_rate(), flow.most_datagrams(1_250)), (10_000_000, 2_000));
        let most = |bits, max_bytes| {
            Flow { bits_per_second: Some(bits), max_bytes, ..flow.clone() }.most_datagrams(1_250)
        };
        assert_eq!([most(1_000_000, u64::MAX), most(1_000_000, 12_600), most(u64::MAX, 1)], [200, 10, 0]);
    }

    fn mesh(places: &[(&str, &str)]) -> Spec {
        let entry = |(place, target): &(&str, &str)| {
            (place.parse::<Place>().unwrap(), vec![Aim::Host(target.parse().unwrap())])
        };
        let mesh: BTreeMap<Place, Vec<Aim>> = places.iter().map(entry).collect();
        Spec {
            probe: "p-1".into(),
            places: mesh.keys().cloned().collect(),
            targets: Vec::new(),
            mesh,
            kind: Kind::Tcp,
            schedule: Schedule {
                start: 0,
                every: None,
                first_run: 0,
                count: 1,
                interval: Duration::ZERO,
                timeout: Duration::ZERO,
            },
            family: Family::Any,
            allowed: Allowed::default(),
        }
    }

    #[test]
    fn a_mesh_is_the_same_while_each_place_that_is_left_has_its_targets() {
        let whole = mesh(&[("", "10.0.0.1:80"), ("blue", "10.0.0.2:80")]);
        assert!(whole.is_like(&whole) && whole.is_like(&mesh(&[("blue", "10.0.0.2:80")])));
        assert!(!whole.is_like(&mesh(&[("blue", "10.0.0.3:80")])), "another target");
        assert!(!whole.is_like(&mesh(&[("red", "10.0.0.2:80")])), "another place");
        let plain =
            Spec { mesh: BTreeMap::new(), targets: whole.targets_of(&Place::Host).to_vec(), ..whole.clone() };
        assert!(!whole.is_like(&plain) && plain.is_like(&plain));
        assert_eq!(whole.targets_of(&"blue".parse().unwrap())[0].to_string(), "10.0.0.2:80");
    }

    #[test]
    fn a_name_stands_for_an_address_of_the_family() {
        let both = ["fd00::1", "10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let pick = |family: Family| family.pick(both.into_iter());
        assert_eq!(pick(Family::Any), Some(both[1]));
        assert_eq!(pick(Family::V4), Some(both[1]));
        assert_eq!(pick(Family::V6), Some(both[0]));
        assert_eq!(Family::V6.pick(both[1..].iter().copied()), None);
    }
}
