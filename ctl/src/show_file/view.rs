//! A packet's facts, as programs read them.

use lastseen_packet::observation::{FlowKey, Observation, marks};
use lastseen_packet::{
    Capture, DecodeConfig, DecodeError, Decoded, Encapsulation, Gso, IdentityKey, LinkType, Transport,
    Unobserved, k0, observe,
};
use serde::Serialize;

use crate::capture_file::Frame;
use crate::output::names;

/// Everything that is shown of a packet. Fields that do not apply are absent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PacketView {
    /// Counts from 1.
    pub(super) number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) vlans: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mpls_labels: Vec<u32>,
    /// Outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) encapsulations: Vec<EncapsulationView>,
    #[serde(flatten)]
    pub(super) inner: Inner,
    pub(super) captured_length: u32,
    pub(super) original_length: u32,
    /// K0, 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// Why there is no identity although the packet was decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorView>,
}

/// A tunnel. What it hides, if its inside cannot be read, is absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EncapsulationView {
    pub(super) kind: &'static str,
    pub(super) id: u32,
    /// Absent for labels straight on a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
}

/// The innermost packet.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inner {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tcp_seq: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tcp_ack: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tcp_flags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_seq: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fragment: Option<FragmentView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload_length: Option<u32>,
}

/// Place of a fragment in its datagram.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FragmentView {
    pub(super) offset: u16,
    pub(super) more: bool,
}

/// Where and why decoding ended early.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorView {
    /// Absent where the record itself, not a header, is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u32>,
    pub(super) reason: String,
}

impl PacketView {
    /// Decodes a frame. What was decoded before an error is shown beside it.
    pub(super) fn of(number: u64, frame: &Frame<'_>, config: &DecodeConfig, decoded: &mut Decoded) -> Self {
        let mut view = Self {
            number,
            time: frame.time_nanos.and_then(time),
            captured_length: frame.data.len() as u32,
            original_length: frame.original_length,
            ..Self::default()
        };
        let Some(link) = LinkType::from_dlt(frame.link) else {
            view.error = Some(ErrorView::of_record(format!("link type {} is not decoded", frame.link)));
            return view;
        };
        let result = lastseen_packet::decode(config, link, frame.data, frame.original_length, decoded);
        view.read(decoded);
        match result {
            Ok(()) => view.identify(decoded, frame),
            Err(error) => view.error = Some(error.into()),
        }
        view
    }

    /// A record that is no frame.
    pub(super) fn malformed(number: u64, reason: String) -> Self {
        Self { number, error: Some(ErrorView::of_record(reason)), ..Self::default() }
    }

    fn read(&mut self, decoded: &Decoded) {
        self.vlans = decoded.vlans().iter().map(|tag| tag.id).collect();
        self.mpls_labels = decoded.labels().to_vec();
        self.encapsulations = decoded.encapsulations().iter().map(EncapsulationView::from).collect();
        if let Some(opaque) = EncapsulationView::of_opaque(decoded) {
            self.encapsulations.push(opaque);
        } else {
            self.inner = Inner::of(decoded);
        }
    }

    fn identify(&mut self, decoded: &Decoded, frame: &Frame<'_>) {
        let key = IdentityKey([0; 16]);
        let capture = Capture { time_nanos: 0, gso: Gso::UNKNOWN };
        let mut take = |flow: &FlowKey, row: Observation| {
            let cut = row.marks & marks::HASH_TRUNCATED != 0;
            self.identity = Some(format!("{:016x}", k0(&key, flow, &row)));
            self.note = cut.then(|| "the snap length cut bytes that belong to the identity".to_owned());
        };
        if let Err(reason) = observe(decoded, frame.data, capture, &key, &mut take) {
            self.note = Some(match (reason, decoded.arp) {
                (Unobserved::Arp, Some(arp)) if arp.operation == 1 => {
                    format!("ARP: {} asks for {}", arp.sender, arp.target)
                }
                (Unobserved::Arp, Some(arp)) => format!("ARP: {} answers {}", arp.sender, arp.target),
                (reason, _) => reason.to_string(),
            });
        }
    }
}

impl Inner {
    fn of(decoded: &Decoded) -> Self {
        let Some(network) = &decoded.network else { return Self::default() };
        let mut inner = Self {
            source: Some(network.source.to_string()),
            destination: Some(network.destination.to_string()),
            protocol: Some(names::protocol(u32::from(network.protocol))),
            ttl: Some(network.ttl),
            // IPv6 has an identification only in fragments.
            ip_id: (network.is_ipv4() || network.is_fragment()).then_some(network.identification),
            fragment: network
                .is_fragment()
                .then_some(FragmentView { offset: network.fragment_offset, more: network.more_fragments }),
            payload_length: Some(decoded.payload.length),
            ..Self::default()
        };
        inner.read_transport(&decoded.transport);
        inner
    }

    fn read_transport(&mut self, transport: &Transport) {
        let ports = match transport {
            Transport::Tcp(tcp) => {
                (self.tcp_seq, self.tcp_ack) = (Some(tcp.seq), Some(tcp.ack));
                self.tcp_flags = Some(names::tcp_flags(u32::from(tcp.flags)));
                (tcp.source_port, tcp.destination_port)
            }
            Transport::Udp(udp) => (udp.source_port, udp.destination_port),
            Transport::Sctp(sctp) => (sctp.source_port, sctp.destination_port),
            Transport::Icmp(icmp) => {
                (self.icmp_type, self.icmp_code) = (Some(icmp.kind), Some(icmp.code));
                (self.icmp_id, self.icmp_seq) =
                    (icmp.is_echo.then_some(icmp.id), icmp.is_echo.then_some(icmp.seq));
                return;
            }
            Transport::None | Transport::Opaque(_) => return,
        };
        (self.source_port, self.destination_port) = (Some(ports.0), Some(ports.1));
    }
}

impl From<&Encapsulation> for EncapsulationView {
    fn from(tunnel: &Encapsulation) -> Self {
        let has_carrier =
            !tunnel.carrier.source.is_unspecified() || !tunnel.carrier.destination.is_unspecified();
        Self {
            kind: tunnel.kind.name(),
            id: tunnel.id,
            source: has_carrier.then(|| tunnel.carrier.source.to_string()),
            destination: has_carrier.then(|| tunnel.carrier.destination.to_string()),
            source_port: (tunnel.destination_port != 0).then_some(tunnel.source_port),
            destination_port: (tunnel.destination_port != 0).then_some(tunnel.destination_port),
            sequence: (tunnel.sequence != 0).then_some(u64::from(tunnel.sequence)),
        }
    }
}

impl EncapsulationView {
    fn of_opaque(decoded: &Decoded) -> Option<Self> {
        let (Transport::Opaque(opaque), Some(carrier)) = (&decoded.transport, &decoded.network) else {
            return None;
        };
        Some(Self {
            kind: opaque.kind.name(),
            id: opaque.index,
            source: Some(carrier.source.to_string()),
            destination: Some(carrier.destination.to_string()),
            source_port: (opaque.destination_port != 0).then_some(opaque.source_port),
            destination_port: (opaque.destination_port != 0).then_some(opaque.destination_port),
            sequence: Some(opaque.sequence),
        })
    }
}

impl ErrorView {
    fn of_record(reason: String) -> Self {
        Self { layer: None, offset: None, reason }
    }
}

impl From<DecodeError> for ErrorView {
    fn from(error: DecodeError) -> Self {
        Self { layer: Some(error.layer.name()), offset: Some(error.offset), reason: error.reason.to_string() }
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn time(nanos: i128) -> Option<String> {
    let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(9));
    Some(printer.timestamp_to_string(&jiff::Timestamp::from_nanosecond(nanos).ok()?))
}
