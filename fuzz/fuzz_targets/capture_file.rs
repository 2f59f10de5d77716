//! Arbitrary capture files through the reader of `ctl`: pcap and pcapng, of either byte order, gzipped or not.

#![no_main]

#[path = "../../ctl/src/capture_file/mod.rs"]
#[allow(dead_code, reason = "`ctl` uses more of it")]
mod capture_file;
mod common;

use std::io::{Cursor, Write};

use capture_file::{Item, Reader};
use common::{planted, seeds};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

/// A record takes at least as many bytes, so what is read is bounded by what there is; a zipped one may unpack to more.
const LEAST_RECORD: usize = 12;
const MOST_ITEMS: usize = 1 << 16;

fuzz_target!(init: seeds(files()), |data: &[u8]| {
    let Ok(mut reader) = Reader::open(Box::new(Cursor::new(data.to_vec()))) else { return };
    let most = if data.starts_with(&[0x1f, 0x8b]) { MOST_ITEMS } else { data.len() / LEAST_RECORD };
    let (mut items, mut malformed) = (0, 0);
    while items < MOST_ITEMS {
        match reader.next() {
            None => break,
            Some(Err(reason)) => {
                assert!(!reason.is_empty() && reason.len() < 1_000, "{reason}");
                break;
            }
            Some(Ok(Item::Malformed(reason))) => {
                assert!(reason.len() < 1_000, "{reason}");
                malformed += 1;
            }
            Some(Ok(Item::Frame(frame))) => {
                assert!(frame.data.len() <= 2 << 20, "{} bytes", frame.data.len());
                planted(|| malformed > 0 && items > malformed && frame.original_length > 0);
            }
        }
        items += 1;
    }
    assert!(items <= most, "{items} items of {} bytes", data.len());
    let _ = reader.statistics();
});

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let plain = pcap(0xa1b2_c3d4, u32::to_le_bytes);
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(&plain).unwrap();
    let (flags, end) = (|flags: u32| option(2, &flags.to_le_bytes()), option(0, &[]));
    vec![
        ("pcap", plain),
        ("pcap-nanoseconds", pcap(0xa1b2_3c4d, u32::to_be_bytes)),
        ("pcap-zipped", zip.finish().unwrap()),
        ("pcapng", pcapng(&[])),
        ("pcapng-in", pcapng(&[flags(1), end.clone()].concat())),
        ("pcapng-out", pcapng(&[flags(2), end.clone()].concat())),
        ("pcapng-drops-in", pcapng(&[flags(1), option(4, &7_u64.to_le_bytes()), end].concat())),
    ]
}

fn pcap(magic: u32, bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let mut file = [magic, 0, 0, 0, 65_535, 101].map(bytes).concat();
    let version = if bytes(1)[0] == 1 { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
    file[4..8].copy_from_slice(&version);
    for second in 1..4 {
        file.extend([second, 5, 20, 40].map(bytes).concat());
        file.extend([0x45; 20]);
    }
    file
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
    bytes.extend(value);
    bytes
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

/// A section, an interface, packets of which the first has `options`, and statistics.
fn pcapng(options: &[u8]) -> Vec<u8> {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let interface =
        [&[101, 0, 0, 0][..], &65_535_u32.to_le_bytes(), &option(9, &[9])[..], &[0; 3], &option(0, &[])]
            .concat();
    let packet = |options: &[u8]| {
        let head = [0_u32, 1, 7, 20, 40].map(u32::to_le_bytes).concat();
        [head.as_slice(), &[0x45; 20], options].concat()
    };
    let statistics =
        [[0_u32, 1, 9].map(u32::to_le_bytes).concat(), option(5, &3_u64.to_le_bytes()), option(0, &[])]
            .concat();
    let simple = [&20_u32.to_le_bytes()[..], &[0x45; 20]].concat();
    [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(6, &packet(options)),
        block(6, &packet(&[])),
        block(3, &simple),
        block(5, &statistics),
    ]
    .concat()
}
