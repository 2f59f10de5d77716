//! Headers by hand: each function puts one header in front of what it carries.

use lastseen_packet::{Capture, DecodeConfig, DecodeError, Decoded, Gso, IdentityKey, LinkType};
use lastseen_packet::{decode, observation::FlowKey, observation::Observation, observe};

pub(crate) const KEY: IdentityKey = IdentityKey(*b"0123456789abcdef");

pub(crate) type Bytes = Vec<u8>;

fn join(header: &[u8], payload: &[u8]) -> Bytes {
    [header, payload].concat()
}

fn be(value: usize) -> [u8; 2] {
    u16::try_from(value).expect("a length of 16 bits").to_be_bytes()
}

pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Bytes {
    join(&[&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes()[..]].concat(), payload)
}

pub(crate) fn vlan(id: u16, ethertype: u16, payload: &[u8]) -> Bytes {
    join(&[id.to_be_bytes(), ethertype.to_be_bytes()].concat(), payload)
}

/// What differs from packet to packet in an IPv4 header.
#[derive(Clone, Copy)]
pub(crate) struct V4 {
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
    pub(crate) id: u16,
    pub(crate) ttl: u8,
    /// Flags and fragment offset as in the header.
    pub(crate) fragment: u16,
}

pub(crate) const POD_A: V4 =
    V4 { source: [10, 244, 1, 10], destination: [10, 244, 2, 10], id: 0x1234, ttl: 64, fragment: 0x4000 };
pub(crate) const NODE_A: V4 =
    V4 { source: [172, 18, 0, 2], destination: [172, 18, 0, 3], id: 0x9999, ttl: 64, fragment: 0 };
pub(crate) const MORE: u16 = 0x2000;

impl V4 {
    pub(crate) fn packet(self, protocol: u8, payload: &[u8]) -> Bytes {
        self.with_length(protocol, 20 + payload.len(), &[], payload)
    }

    /// With IP options, whose length must be a multiple of four.
    pub(crate) fn with_options(self, protocol: u8, options: &[u8], payload: &[u8]) -> Bytes {
        self.with_length(protocol, 20 + options.len() + payload.len(), options, payload)
    }

    pub(crate) fn with_length(self, protocol: u8, length: usize, options: &[u8], payload: &[u8]) -> Bytes {
        let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
        header.extend_from_slice(&be(length));
        header.extend_from_slice(&self.id.to_be_bytes());
        header.extend_from_slice(&self.fragment.to_be_bytes());
        header.extend_from_slice(&[self.ttl, protocol, 0, 0]);
        header.extend_from_slice(&self.source);
        header.extend_from_slice(&self.destination);
        header.extend_from_slice(options);
        join(&header, payload)
    }
}

pub(crate) fn v6(next_header: u8, payload: &[u8]) -> Bytes {
    v6_with_length(next_header, payload.len(), payload)
}

pub(crate) fn v6_with_length(next_header: u8, length: usize, payload: &[u8]) -> Bytes {
    let mut header = vec![0x6b, 0x80, 0, 1];
    header.extend_from_slice(&be(length));
    header.extend_from_slice(&[next_header, 63]);
    for last in [1, 2] {
        header.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    join(&header, payload)
}

/// An IPv6 extension header of `units` times eight bytes.
pub(crate) fn extension(next_header: u8, units: u8, payload: &[u8]) -> Bytes {
    let mut header = vec![0; usize::from(units) * 8];
    (header[0], header[1]) = (next_header, units - 1);
    // One option that pads the rest.
    (header[2], header[3]) = (1, units * 8 - 4);
    join(&header, payload)
}

pub(crate) fn v6_fragment(next_header: u8, offset_and_flags: u16, id: u32, payload: &[u8]) -> Bytes {
    let [high, low] = offset_and_flags.to_be_bytes();
    join(&[&[next_header, 0, high, low], &id.to_be_bytes()[..]].concat(), payload)
}

pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Bytes {
    udp_with_length(source, destination, 8 + payload.len(), payload)
}

pub(crate) fn udp_with_length(source: u16, destination: u16, length: usize, payload: &[u8]) -> Bytes {
    join(&[source.to_be_bytes(), destination.to_be_bytes(), be(length), [0; 2]].concat(), payload)
}

/// What differs from segment to segment in a TCP header.
#[derive(Clone, Copy)]
pub(crate) struct TcpFields {
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) timestamps: (u32, u32),
}

pub(crate) const TCP: TcpFields = TcpFields {
    ports: (41822, 80),
    seq: 1000,
    ack: 2000,
    flags: 0x10,
    timestamps: (0x0102_0304, 0x0506_0708),
};

impl TcpFields {
    /// With timestamps in the layout that Linux sends.
    pub(crate) fn segment(self, payload: &[u8]) -> Bytes {
        let (value, echo) = self.timestamps;
        let options = [&[1, 1, 8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()[..]].concat();
        self.with_options(&options, payload)
    }

    pub(crate) fn with_options(self, options: &[u8], payload: &[u8]) -> Bytes {
        let (source, destination) = self.ports;
        let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        header.extend_from_slice(&self.seq.to_be_bytes());
        header.extend_from_slice(&self.ack.to_be_bytes());
        header.extend_from_slice(&[((20 + options.len()) * 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
        header.extend_from_slice(options);
        join(&header, payload)
    }
}

pub(crate) fn icmp(kind: u8, code: u8, rest_of_header: [u8; 4], payload: &[u8]) -> Bytes {
    join(&[&[kind, code, 0, 0], &rest_of_header[..]].concat(), payload)
}

pub(crate) fn echo(kind: u8, id: u16, seq: u16, payload: &[u8]) -> Bytes {
    let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
    icmp(kind, 0, [a, b, c, d], payload)
}

pub(crate) fn sctp(tag: u32, payload: &[u8]) -> Bytes {
    join(&[&[0x13, 0x88, 0x13, 0x89], &tag.to_be_bytes()[..], &[0; 4]].concat(), payload)
}

pub(crate) fn vxlan(vni: u32, inner: &[u8]) -> Bytes {
    join(&[[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat(), inner)
}

pub(crate) fn vxlan_gpe(vni: u32, next_protocol: u8, inner: &[u8]) -> Bytes {
    join(&[[0x0c, 0, 0, next_protocol], (vni << 8).to_be_bytes()].concat(), inner)
}

pub(crate) fn geneve(vni: u32, protocol: u16, options: &[u8], inner: &[u8]) -> Bytes {
    let [high, low] = protocol.to_be_bytes();
    let header = [[(options.len() / 4) as u8, 0, high, low], (vni << 8).to_be_bytes()].concat();
    join(&join(&header, options), inner)
}

/// With checksum, key and sequence number where given.
pub(crate) fn gre(
    protocol: u16,
    checksum: bool,
    key: Option<u32>,
    sequence: Option<u32>,
    inner: &[u8],
) -> Bytes {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = bit(checksum, 0x80) | bit(key.is_some(), 0x20) | bit(sequence.is_some(), 0x10);
    let mut header = [[flags, 0], protocol.to_be_bytes()].concat();
    if checksum {
        header.extend_from_slice(&[0; 4]);
    }
    header.extend(key.iter().chain(&sequence).flat_map(|word| word.to_be_bytes()));
    join(&header, inner)
}

/// Labels, outermost first; the last one is the bottom of the stack.
pub(crate) fn mpls(labels: &[u32], inner: &[u8]) -> Bytes {
    let bottom = labels.len() - 1;
    let entry = |(index, label): (usize, &u32)| {
        (label << 12 | if index == bottom { 0x100 } else { 0 } | 64).to_be_bytes()
    };
    join(&labels.iter().enumerate().flat_map(entry).collect::<Bytes>(), inner)
}

pub(crate) fn esp(spi: u32, sequence: u32, ciphertext: &[u8]) -> Bytes {
    join(&[spi.to_be_bytes(), sequence.to_be_bytes()].concat(), ciphertext)
}

pub(crate) fn ah(next_header: u8, spi: u32, sequence: u32, payload: &[u8]) -> Bytes {
    let header = [[next_header, 4, 0, 0], spi.to_be_bytes(), sequence.to_be_bytes(), [7; 4], [7; 4], [7; 4]];
    join(&header.concat(), payload)
}

pub(crate) fn wireguard(receiver: u32, counter: u64, ciphertext: &[u8]) -> Bytes {
    join(&[&[4, 0, 0, 0], &receiver.to_le_bytes()[..], &counter.to_le_bytes()[..]].concat(), ciphertext)
}

pub(crate) fn arp(sender: [u8; 4], target: [u8; 4]) -> Bytes {
    [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1], &sender[..], &[0; 6], &target[..]].concat()
}

/// `inner`, an Ethernet frame, as flannel sends it from node to node.
pub(crate) fn over_vxlan(vni: u32, inner: &[u8]) -> Bytes {
    ethernet(0x0800, &NODE_A.packet(17, &udp(54321, 8472, &vxlan(vni, inner))))
}

/// Decodes a whole Ethernet frame.
pub(crate) fn decoded(frame: &[u8]) -> Result<Decoded, DecodeError> {
    let mut out = Decoded::default();
    decode(&DecodeConfig::default(), LinkType::Ethernet, frame, frame.len() as u32, &mut out).map(|()| out)
}

pub(crate) type Row = (FlowKey, Observation);

/// The rows of a frame of which `frame` was captured.
pub(crate) fn rows_of(frame: &[u8], original_length: usize, gso: Gso) -> Vec<Row> {
    let mut out = Decoded::default();
    decode(&DecodeConfig::default(), LinkType::Ethernet, frame, original_length as u32, &mut out)
        .expect("decodable");
    let mut rows = Vec::new();
    observe(&out, frame, Capture { time_nanos: 7, gso }, &KEY, &mut |flow, row| rows.push((*flow, row)))
        .expect("an IP packet");
    rows
}

/// The only row of a frame captured whole.
pub(crate) fn row_of(frame: &[u8]) -> Row {
    let rows = rows_of(frame, frame.len(), Gso::default());
    assert_eq!(rows.len(), 1);
    rows[0]
}
