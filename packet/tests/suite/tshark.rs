//! Every packet of the capture files, field by field, beside what tshark says.

use std::collections::BTreeMap;
use std::path::Path;

use lastseen_packet::observation::{OverlayKind, protocol};
use lastseen_packet::{
    DecodeConfig, DecodeError, Decoded, Embedded, Icmp, Network, Opaque, Reason, Tcp, Transport,
};
use lastseen_packet::{Layer, LinkType, Sctp, decode};

use crate::captures::{Frame, capture_files, read_frames, tshark, write_frames};
use crate::layers::every_kind;

/// A tshark field and the same facts from the decoder, outermost first, in tshark's notation. `a+b` are two fields of
/// which tshark uses one for the outer and one for the inner header.
type Field = (&'static str, fn(&View) -> Vec<String>);

const FIELDS: &[Field] = &[
    ("ieee8021ad.id+vlan.id", |v| v.out.vlans().iter().map(|tag| tag.id.to_string()).collect()),
    ("mpls.label", |v| v.out.labels().iter().map(u32::to_string).collect()),
    ("ip.src", |v| v.v4(|h| h.source.to_string(), |e| e.source.to_string())),
    ("ip.dst", |v| v.v4(|h| h.destination.to_string(), |e| e.destination.to_string())),
    ("ip.proto", |v| v.v4(|h| h.protocol.to_string(), |e| e.protocol.to_string())),
    ("ip.id", |v| v.v4(|h| format!("0x{:04x}", h.identification), |e| format!("0x{:04x}", e.ip_id))),
    ("ip.len", |v| v.v4(|h| h.total_length.to_string(), |e| e.total_length.to_string())),
    ("ip.ttl", |v| v.network(true, |h| h.ttl.to_string())),
    ("ip.dsfield", |v| v.network(true, |h| format!("0x{:02x}", h.traffic_class))),
    ("ip.frag_offset", |v| v.network(true, |h| h.fragment_offset.to_string())),
    ("ip.flags.mf", |v| v.network(true, |h| u8::from(h.more_fragments).to_string())),
    ("ip.flags.df", |v| v.network(true, |h| u8::from(h.dont_fragment).to_string())),
    ("ipv6.src", |v| v.network(false, |h| h.source.to_string())),
    ("ipv6.dst", |v| v.network(false, |h| h.destination.to_string())),
    ("ipv6.hlim", |v| v.network(false, |h| h.ttl.to_string())),
    ("ipv6.plen", |v| v.network(false, |h| v.payload_length_field(h).to_string())),
    ("ipv6.tclass", |v| v.network(false, |h| format!("0x{:08x}", h.traffic_class))),
    ("tcp.srcport", |v| v.tcp(|t| t.source_port.to_string())),
    ("tcp.dstport", |v| v.tcp(|t| t.destination_port.to_string())),
    ("tcp.seq", |v| v.tcp(|t| t.seq.to_string())),
    ("tcp.ack", |v| v.tcp(|t| t.ack.to_string())),
    ("tcp.len", |v| v.tcp(|_| v.out.payload.length.to_string())),
    ("tcp.flags", |v| v.tcp(|t| format!("0x{:04x}", t.flags))),
    ("tcp.window_size_value", |v| v.tcp(|t| t.window.to_string())),
    ("tcp.options.timestamp.tsval", |v| v.timestamps(|(value, _)| value)),
    ("tcp.options.timestamp.tsecr", |v| v.timestamps(|(_, echo)| echo)),
    ("tcp.options.sack_le", |v| v.sack(|(left, _)| left)),
    ("tcp.options.sack_re", |v| v.sack(|(_, right)| right)),
    ("sctp.srcport", |v| v.sctp(|s| s.source_port.to_string())),
    ("sctp.dstport", |v| v.sctp(|s| s.destination_port.to_string())),
    ("sctp.verification_tag", |v| v.sctp(|s| format!("0x{:08x}", s.verification_tag))),
    ("ah.spi", |v| v.tunnels(&[OverlayKind::Ah], |id| format!("0x{id:08x}"))),
    ("ah.sequence", |v| v.ah_sequences()),
    ("wg.receiver", |v| v.opaque(OverlayKind::WireGuard, |o| format!("0x{:08x}", o.index))),
    ("wg.counter", |v| v.opaque(OverlayKind::WireGuard, |o| o.sequence.to_string())),
    ("udp.srcport", |v| v.udp(0)),
    ("udp.dstport", |v| v.udp(1)),
    ("vxlan.vni", |v| v.tunnels(&[OverlayKind::Vxlan, OverlayKind::VxlanGpe], |id| id.to_string())),
    ("geneve.vni", |v| v.tunnels(&[OverlayKind::Geneve], |id| format!("0x{id:06x}"))),
    ("gre.key", |v| v.gre_keys()),
    ("esp.spi", |v| v.opaque(OverlayKind::Esp, |o| format!("0x{:08x}", o.index))),
    ("esp.sequence", |v| v.opaque(OverlayKind::Esp, |o| o.sequence.to_string())),
    ("icmp.type+icmpv6.type", |v| v.icmp(|i| i.kind.to_string())),
    ("icmp.code+icmpv6.code", |v| v.icmp(|i| i.code.to_string())),
    ("icmp.ident", |v| v.echo(protocol::ICMP, |i| i.id.to_string())),
    ("icmpv6.echo.identifier", |v| v.echo(protocol::ICMPV6, |i| format!("0x{:04x}", i.id))),
    ("icmp.seq", |v| v.echo(protocol::ICMP, |i| i.seq.to_string())),
    ("icmpv6.echo.sequence_number", |v| v.echo(protocol::ICMPV6, |i| i.seq.to_string())),
    ("arp.opcode", |v| v.arp(|a| a.operation.to_string())),
    ("arp.src.proto_ipv4", |v| v.arp(|a| a.sender.to_string())),
    ("arp.dst.proto_ipv4", |v| v.arp(|a| a.target.to_string())),
];

/// A decoded frame, read the way tshark prints it.
struct View<'a> {
    out: &'a Decoded,
    frame: &'a Frame,
}

impl View<'_> {
    /// The payload length as the header has it: 0 leaves it to the frame, which must then be used up.
    fn payload_length_field(&self, header: &Network) -> u32 {
        let at = header.offset as usize;
        let is_zero = self.frame.bytes[at + 4..at + 6] == [0, 0];
        let uses_the_frame = header.offset + header.total_length == self.frame.original_length;
        if is_zero && uses_the_frame { 0 } else { header.total_length - 40 }
    }

    /// IP headers, outermost first. Stacked tunnels can share a carrier.
    fn headers(&self) -> Vec<Network> {
        let carriers = self.out.encapsulations().iter().map(|tunnel| tunnel.carrier);
        let mut headers: Vec<Network> = carriers.chain(self.out.network).collect();
        headers.dedup_by_key(|header| header.offset);
        headers.retain(|header| header.header_length != 0);
        headers
    }

    fn network(&self, is_v4: bool, field: impl Fn(&Network) -> String) -> Vec<String> {
        let mut values: Vec<String> =
            self.headers().iter().filter(|h| h.is_ipv4() == is_v4).map(&field).collect();
        // The quoted packet's field is known to tshark only; the comparison then covers the packet's own headers.
        if is_v4 && self.embedded().is_some() {
            values.push("*".to_owned());
        }
        values
    }

    fn v4(&self, field: impl Fn(&Network) -> String, quoted: impl Fn(&Embedded) -> String) -> Vec<String> {
        let own = self.headers().into_iter().filter(Network::is_ipv4).map(|header| field(&header));
        own.chain(self.embedded().map(|quote| quoted(&quote))).collect()
    }

    fn embedded(&self) -> Option<Embedded> {
        match self.out.transport {
            Transport::Icmp(Icmp { embedded, .. }) => embedded,
            _ => None,
        }
    }

    fn tcp(&self, field: impl Fn(&Tcp) -> String) -> Vec<String> {
        match &self.out.transport {
            Transport::Tcp(tcp) => vec![field(tcp)],
            _ => Vec::new(),
        }
    }

    fn timestamps(&self, pick: fn((u32, u32)) -> u32) -> Vec<String> {
        match &self.out.transport {
            Transport::Tcp(tcp) => tcp.timestamps.map(|pair| pick(pair).to_string()).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn udp(&self, side: usize) -> Vec<String> {
        let tunnels = self.out.encapsulations().iter().map(|t| [t.source_port, t.destination_port]);
        let innermost = match self.out.transport {
            Transport::Udp(udp) => [udp.source_port, udp.destination_port],
            Transport::Opaque(opaque) => [opaque.source_port, opaque.destination_port],
            _ => [0; 2],
        };
        let quoted = self.embedded().filter(|quote| quote.protocol == protocol::UDP).map(|quote| {
            let t = quote.transport;
            [u16::from_be_bytes([t[0], t[1]]), u16::from_be_bytes([t[2], t[3]])]
        });
        let pairs = tunnels.chain([innermost]).chain(quoted);
        pairs.map(|pair| pair[side]).filter(|&port| port != 0).map(|port| port.to_string()).collect()
    }

    fn tunnels(&self, kinds: &[OverlayKind], show: impl Fn(u32) -> String) -> Vec<String> {
        let matching = self.out.encapsulations().iter().filter(|tunnel| kinds.contains(&tunnel.kind));
        matching.map(|tunnel| show(tunnel.id)).collect()
    }

    fn opaque(&self, kind: OverlayKind, field: impl Fn(&Opaque) -> String) -> Vec<String> {
        match &self.out.transport {
            Transport::Opaque(opaque) if opaque.kind == kind => vec![field(opaque)],
            _ => Vec::new(),
        }
    }

    /// A tunnel without a key has id 0.
    fn gre_keys(&self) -> Vec<String> {
        let mut keys = self.tunnels(&[OverlayKind::Gre], |id| format!("0x{id:08x}"));
        keys.retain(|key| key != "0x00000000");
        keys
    }

    fn ah_sequences(&self) -> Vec<String> {
        let headers = self.out.encapsulations().iter().filter(|tunnel| tunnel.kind == OverlayKind::Ah);
        headers.map(|tunnel| tunnel.sequence.to_string()).collect()
    }

    fn sack(&self, pick: fn((u32, u32)) -> u32) -> Vec<String> {
        match &self.out.transport {
            Transport::Tcp(tcp) => {
                tcp.sack[..usize::from(tcp.sack_count)].iter().map(|&block| pick(block).to_string()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn sctp(&self, field: impl Fn(&Sctp) -> String) -> Vec<String> {
        match &self.out.transport {
            Transport::Sctp(sctp) => vec![field(sctp)],
            _ => Vec::new(),
        }
    }

    fn icmp(&self, field: impl Fn(&Icmp) -> String) -> Vec<String> {
        match &self.out.transport {
            Transport::Icmp(icmp) => vec![field(icmp)],
            _ => Vec::new(),
        }
    }

    /// Echo fields, whose names differ between the versions.
    fn echo(&self, version: u8, field: impl Fn(&Icmp) -> String) -> Vec<String> {
        match &self.out.transport {
            Transport::Icmp(icmp)
                if icmp.is_echo && self.out.network.is_some_and(|n| n.protocol == version) =>
            {
                vec![field(icmp)]
            }
            _ => Vec::new(),
        }
    }

    fn arp(&self, field: impl Fn(&lastseen_packet::Arp) -> String) -> Vec<String> {
        self.out.arp.iter().map(field).collect()
    }
}

fn decode_frame(frame: &Frame, out: &mut Decoded) -> Result<(), DecodeError> {
    decode(&DecodeConfig::default(), frame.link, &frame.bytes, frame.original_length, out)
}

/// Values agree where they are equal; `*` stands for any one value.
fn agree(ours: &[String], theirs: &[String]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a == "*" || a == b)
}

/// After an error the layers read before it must agree, so our values are the first of tshark's.
fn agree_partly(ours: &[String], theirs: &[String]) -> bool {
    theirs.get(..ours.len()).is_some_and(|head| agree(ours, head))
}

/// Compares a file and returns the errors the decoder found in it, by packet number from 1.
fn compare(path: &Path, options: &[&str]) -> (usize, BTreeMap<usize, DecodeError>) {
    let names: Vec<&str> = FIELDS.iter().flat_map(|field| field.0.split('+')).collect();
    let expected = tshark(path, &names, options);
    let frames = read_frames(path);
    assert_eq!(frames.len(), expected.len(), "{}: packets", path.display());
    let (mut out, mut errors) = (Decoded::default(), BTreeMap::new());
    for (index, (frame, expected)) in frames.iter().zip(&expected).enumerate() {
        let result = decode_frame(frame, &mut out);
        let matches = if result.is_ok() { agree } else { agree_partly };
        let mut columns = expected.iter();
        for (name, ours) in FIELDS {
            let theirs =
                columns.by_ref().take(name.split('+').count()).flatten().cloned().collect::<Vec<_>>();
            let ours = ours(&View { out: &out, frame });
            let place = format!("{} packet {}: {name}", path.display(), index + 1);
            assert!(matches(&ours, &theirs), "{place}: ours {ours:?}, tshark {theirs:?}, {result:?}");
        }
        if let Err(error) = result {
            errors.insert(index + 1, error);
        }
    }
    (frames.len(), errors)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a file name")
}

/// The packets that are malformed, and where.
fn known_errors(name: &str) -> BTreeMap<usize, DecodeError> {
    let errors: &[(usize, Layer, u32, Reason)] = match name {
        // Its UDP header says port 8472; the snap length leaves four bytes of what follows.
        "esp_truncated.pcap" => &[(1, Layer::Vxlan, 42, Reason::Truncated)],
        "gre-heapoverflow-1.pcap" => &[(2, Layer::Ipv4, 14, Reason::Version)],
        // The routing flag of RFC 1701.
        "gre-heapoverflow-2.pcap" => &[(2, Layer::Gre, 34, Reason::Field)],
        "ip6_frag_asan.pcap" => &[(1, Layer::Ipv6Extension, 54, Reason::Truncated)],
        _ => &[],
    };
    errors
        .iter()
        .map(|&(packet, layer, offset, reason)| (packet, DecodeError { layer, offset, reason }))
        .collect()
}

#[test]
fn every_packet_of_the_capture_files_agrees_with_tshark() {
    let mut packets = 0;
    for path in capture_files() {
        let name = file_name(&path);
        if name.starts_with("bigtcp-") {
            continue;
        }
        let decode_as: &[&str] =
            if name == "vxlan_port_8472.pcap" { &["-d", "udp.port==8472,vxlan"] } else { &[] };
        let (count, errors) = compare(&path, decode_as);
        assert_eq!(errors, known_errors(name), "{name}: malformed packets");
        packets += count;
    }
    assert_eq!(packets, 213, "packets compared");
}

/// A BIG TCP frame, of which tshark reads nothing behind the first zero length, cut to a size that its length fields
/// can tell, and those filled in.
fn shrink(frame: &Frame) -> Frame {
    const LENGTH: usize = 3000;
    let mut bytes = frame.bytes[..LENGTH].to_vec();
    let mut set = |at: usize, value: usize| {
        assert_eq!(bytes[at..at + 2], [0, 0], "the length at {at} is left to the frame");
        bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    };
    let mut set_ip = |at: usize, version: u8| match version {
        4 => set(at + 2, LENGTH - at),
        _ => set(at + 4, LENGTH - at - 40),
    };
    let outer = 14;
    let outer_version = frame.bytes[outer] >> 4;
    let udp = outer + if outer_version == 4 { 20 } else { 40 };
    // UDP and tunnel header without options are eight bytes each, then the inner Ethernet header.
    let inner = udp + 8 + 8 + 14;
    set_ip(outer, outer_version);
    set_ip(inner, frame.bytes[inner] >> 4);
    set(udp + 4, LENGTH - udp);
    Frame { link: frame.link, original_length: LENGTH as u32, bytes }
}

fn lengthless(network: &Network) -> Network {
    Network { total_length: 0, ..*network }
}

#[test]
fn big_tcp_packets_agree_with_tshark_once_their_lengths_are_filled_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut packets = 0;
    for path in capture_files().iter().filter(|path| file_name(path).starts_with("bigtcp-")) {
        let [frame] = &read_frames(path)[..] else { panic!("{} holds one packet", path.display()) };
        let small = shrink(frame);
        let small_path = directory.path().join(file_name(path));
        write_frames(&small_path, std::slice::from_ref(&small));
        assert_eq!(compare(&small_path, &[]), (1, BTreeMap::new()));

        let (mut big_out, mut small_out) = (Decoded::default(), Decoded::default());
        decode_frame(frame, &mut big_out).expect("the whole frame decodes");
        decode_frame(&small, &mut small_out).expect("the cut frame decodes");
        assert_eq!(big_out.transport, small_out.transport);
        assert_eq!(big_out.network.as_ref().map(lengthless), small_out.network.as_ref().map(lengthless));
        let grown = frame.original_length - small.original_length;
        assert_eq!(big_out.payload.length, small_out.payload.length + grown);
        assert!(big_out.network.expect("inner header").total_length > 65_535);
        packets += 1;
    }
    assert_eq!(packets, 6, "BIG TCP files");
}

/// The protocols that no shared capture file holds: SCTP, AH, `WireGuard`, SACK, IPv6 extension headers and tunnels.
#[test]
fn packets_made_by_hand_agree_with_tshark() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("kinds.pcap");
    // tshark lists the ports of the TCP header an error quotes among the packet's own.
    let kinds = every_kind().into_iter().filter(|(name, _)| *name != "icmp error");
    let frames: Vec<Frame> = kinds.map(|(_, bytes)| Frame::whole(LinkType::Ethernet, bytes)).collect();
    write_frames(&path, &frames);
    let options = ["-d", "udp.port==8472,vxlan", "-d", "udp.port==51820,wg", "-d", "mpls.label==17,pwethcw"];
    assert_eq!(compare(&path, &options), (frames.len(), BTreeMap::new()));
}
