use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lastseen_packet::observation::{Columns, FlowKey, Observation, Overlay, OverlayKind};
use proptest::prelude::*;

use super::*;

fn flow_keys() -> impl Strategy<Value = FlowKey> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        any::<[u8; 16]>().prop_map(|a| IpAddr::V6(Ipv6Addr::from(a))),
    ];
    let kind = prop_oneof![Just(OverlayKind::Vxlan), Just(OverlayKind::Esp), Just(OverlayKind::Ah)];
    let overlay = (kind, any::<u32>(), address.clone(), address.clone(), any::<u16>())
        .prop_map(|(kind, id, source, destination, port)| Overlay { kind, id, source, destination, port });
    (proptest::option::of(overlay), address.clone(), address, any::<(u8, u16, u16)>()).prop_map(
        |(overlay, source, destination, (protocol, source_port, destination_port))| FlowKey {
            overlay,
            source,
            destination,
            protocol,
            source_port,
            destination_port,
        },
    )
}

prop_compose! {
    fn observations()(
        time_nanos: i64, flow: u32, lengths: [u32; 2], wide: [u32; 6], narrow: [u16; 7],
        bytes: [u8; 5], transport_hash in prop_oneof![Just(0), any::<u64>()], plain: bool,
    ) -> Observation {
        let all = Observation {
            time_nanos, flow, ip_length: lengths[0], payload_length: lengths[1], fragment_offset: narrow[0], ip_id: narrow[1],
            outer_ip_id: narrow[2], gso_size: narrow[3], gso_type: bytes[0], ttl: bytes[1],
            outer_ip_id_high: narrow[5], outer_fragment_length: narrow[6], traffic_class: bytes[2], marks: bytes[3], tcp_flags: bytes[4], tcp_window: narrow[4],
            tcp_seq: wide[0], tcp_ack: wide[1], ts_value: wide[2], ts_echo: wide[3], sack_left: wide[4],
            sack_right: wide[5], transport_hash,
        };
        if plain { Observation { time_nanos, flow, ..Observation::default() } } else { all }
    }
}

fn batches() -> impl Strategy<Value = Columns> {
    (proptest::collection::vec(flow_keys(), 1..6), proptest::collection::vec(observations(), 0..40)).prop_map(
        |(mut flows, rows)| {
            flows.truncate(rows.len());
            let mut columns = Columns { flows, ..Columns::default() };
            for mut row in rows {
                row.flow %= columns.flows.len() as u32;
                columns.push(&row);
            }
            columns
        },
    )
}

fn encode(columns: &Columns) -> Vec<u8> {
    Encoder::new().unwrap().encode(columns).unwrap()
}

/// Puts a right checksum on bytes that were changed, to reach what lies behind it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(&bytes);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(columns in batches()) {
        prop_assert!(columns.is_consistent());
        prop_assert_eq!(decode(&encode(&columns), &Limits::default()).unwrap(), columns);
    }

    #[test]
    fn arbitrary_bytes_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes, &Limits::default()).is_err());
    }

    #[test]
    fn arbitrary_contents_under_a_right_checksum_never_break_consistency(
        rows in 0_u32..50, flows in 0_u32..50, raw in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = vec![VERSION];
        for count in [rows, flows, raw.len() as u32, 0] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend(zstd::bulk::compress(&raw, 1).unwrap());
        if let Ok(columns) = decode(&sealed(bytes), &Limits::default()) {
            prop_assert!(columns.is_consistent() && columns.len() == rows as usize);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(columns in batches(), place: prop::sample::Index, bit in 0..8) {
        let mut bytes = encode(&columns);
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes, &Limits::default()).is_err());
    }
}

#[test]
fn every_cut_is_an_error() {
    let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED], ..Columns::default() };
    columns.push(&Observation { time_nanos: 7, transport_hash: 9, tcp_seq: 1, ..Observation::default() });
    let bytes = encode(&columns);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length], &Limits::default()).is_err(), "cut to {length}");
    }
}

#[test]
fn a_bomb_is_refused_by_its_declared_size_and_by_its_real_one() {
    let limits = Limits { raw_bytes: 1 << 16, ..Limits::default() };
    let bomb = zstd::bulk::compress(&vec![0; 1 << 24], 1).unwrap();
    for declared in [1_u32 << 24, 1 << 10] {
        let mut bytes = vec![VERSION];
        for count in [1, 1, declared, 0] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&bomb);
        let error = decode(&sealed(bytes), &limits).unwrap_err();
        assert!(matches!(error, BatchError::Limit { .. } | BatchError::Compression(_)), "{error}");
    }
}

#[test]
fn limits_and_versions_are_named() {
    let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED], ..Columns::default() };
    for _ in 0..3 {
        columns.push(&Observation::default());
    }
    let mut bytes = encode(&columns);
    let error = decode(&bytes, &Limits { rows: 2, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "3 rows, above the limit of 2");
    bytes[0] = 2;
    let error = decode(&bytes, &Limits::default()).unwrap_err();
    assert_eq!(error, BatchError::Version(2));
    assert_eq!(
        error.to_string(),
        "batch format 2, but this program reads format 3: use agents and a coordinator of one version"
    );
}

/// A batch of one row with `ip_length` said to have `planes` planes and to start at `start`.
fn ip_length_of(planes: u8, start: u64) -> Result<Columns, BatchError> {
    let mut raw = Vec::new();
    flows::encode(&[FlowKey::UNSPECIFIED], &mut raw);
    raw.extend_from_slice(&[0, 0, 0, 0, planes]);
    wire::put_varint(start, &mut raw);
    raw.resize(raw.len() + 100, 0);
    let mut bytes = vec![VERSION];
    for count in [1, 1, raw.len() as u32, 0] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.extend(zstd::bulk::compress(&raw, 1).unwrap());
    decode(&sealed(bytes), &Limits::default())
}

#[test]
fn a_column_has_no_more_planes_than_its_width_and_starts_within_it() {
    let past_ip_length = |result| !matches!(result, Err(BatchError::Value("ip_length")));
    assert!(past_ip_length(ip_length_of(4, u32::MAX.into())));
    assert!(!past_ip_length(ip_length_of(5, 0)));
    assert!(!past_ip_length(ip_length_of(0, 1 << 32)));
}

/// `SplitMix64`.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Datagrams of 400 flows in no order, with random times, sizes and outer identifications, beside the hash of each.
fn random_datagrams(rows: usize) -> Columns {
    let mut state = 7;
    let mut below = |limit: u64| random(&mut state) % limit;
    let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED; rows.min(400)], ..Columns::default() };
    let mut time_nanos = 1_790_000_000_000_000_000;
    for _ in 0..rows {
        time_nanos += 200 + below(6_000) as i64;
        let payload_length = 40 + below(1_160) as u32;
        columns.push(&Observation {
            time_nanos,
            flow: below(rows.min(400) as u64) as u32,
            payload_length,
            ip_length: payload_length + 28,
            outer_ip_id: below(1 << 16) as u16,
            ttl: 63,
            transport_hash: below(u64::MAX),
            ..Observation::default()
        });
    }
    columns
}

/// Times are about 13 bits, flows 9, sizes 11, identifications 16 and hashes 64: 113 bits or 14.1 bytes.
#[test]
fn random_columns_take_little_more_than_their_randomness() {
    let columns = random_datagrams(4_096);
    let bytes = encode(&columns).len();
    assert!(bytes < 4_096 * 15, "{} bytes a row", bytes as f64 / 4_096.0);
}

#[test]
fn an_encoder_starts_afresh_with_every_batch() {
    let mut encoder = Encoder::new().unwrap();
    for rows in [4_096, 3, 0, 1_000] {
        let columns = random_datagrams(rows);
        let encoded = encoder.encode(&columns).unwrap();
        assert_eq!(encoded, encode(&columns));
        assert_eq!(decode(&encoded, &Limits::default()), Ok(columns));
    }
}
