//! How fast one core decodes and identifies packets.
//!
//! Repeats the packets of capture files in memory, with addresses, ports, sequence numbers and identifications
//! varied, and prints the rate of decode + observe + K0, median of several runs. `--write` puts the same traffic into
//! a capture file, so that other tools can be timed on it.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use lastseen_packet::observation::{FlowKey, Observation, gso, protocol};
use lastseen_packet::{
    Capture, DecodeConfig, Decoded, Gso, IdentityKey, LinkType, Network, Sampler, Threshold,
};
use lastseen_packet::{decode, observe, segments};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Capture files to repeat.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Packets to make of them.
    #[arg(long, default_value_t = 10_000_000)]
    packets: usize,
    /// Bytes kept of each packet, as an agent's default capture keeps them.
    #[arg(long, default_value_t = 192)]
    snaplen: usize,
    /// Timed runs; the median is printed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Write the traffic as a capture file (Ethernet frames only) and end.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// A frame within `Traffic::bytes`.
#[derive(Clone, Copy)]
struct Frame {
    start: usize,
    captured: usize,
    original_length: u32,
    link: LinkType,
}

/// Packets one behind the other, as in a capture ring.
#[derive(Default)]
struct Traffic {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

impl Traffic {
    fn push(&mut self, link: LinkType, original_length: u32, bytes: &[u8]) {
        self.frames.push(Frame { start: self.bytes.len(), captured: bytes.len(), original_length, link });
        self.bytes.extend_from_slice(bytes);
    }

    fn bytes_of(&self, frame: &Frame) -> &[u8] {
        &self.bytes[frame.start..frame.start + frame.captured]
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let templates = read_templates(&options)?;
    let traffic = repeat(&templates, options.packets);
    if let Some(path) = &options.write {
        return write(&traffic, path);
    }
    println!(
        "{} packets from {} templates, {} bytes each on average",
        traffic.frames.len(),
        templates.frames.len(),
        traffic.bytes.len() / traffic.frames.len().max(1),
    );
    report("decode", options.runs, &traffic, decode_all);
    report("decode + observe + k0", options.runs, &traffic, identify_all);
    report("decode + observe + sample 1/16", options.runs, &traffic, sample_all);
    report_expansion(options.runs);
    Ok(())
}

fn read_templates(options: &Options) -> Result<Traffic, Box<dyn Error>> {
    let mut templates = Traffic::default();
    for path in &options.files {
        let mut reader = PcapReader::with_capacity(File::open(path)?, 1 << 20)?;
        let dlt = u32::from(reader.header().datalink);
        let link = LinkType::from_dlt(dlt).ok_or_else(|| format!("{}: link type {dlt}", path.display()))?;
        while let Some(packet) = reader.next_raw_packet() {
            let packet = packet?;
            let kept = packet.data.len().min(options.snaplen);
            templates.push(link, packet.orig_len, &packet.data[..kept]);
        }
    }
    if templates.frames.is_empty() {
        return Err("the capture files hold no packet".into());
    }
    Ok(templates)
}

fn repeat(templates: &Traffic, packets: usize) -> Traffic {
    let mut traffic = Traffic::default();
    traffic.frames.reserve_exact(packets);
    traffic.bytes.reserve_exact(templates.bytes.len() * (packets / templates.frames.len() + 1));
    let (config, mut out) = (DecodeConfig::default(), Decoded::default());
    for (index, template) in templates.frames.iter().cycle().take(packets).enumerate() {
        let bytes = templates.bytes_of(template);
        traffic.push(template.link, template.original_length, bytes);
        if decode(&config, template.link, bytes, template.original_length, &mut out).is_ok() {
            let start = traffic.frames[index].start;
            vary(&mut traffic.bytes[start..], &out, mix(index as u64));
        }
    }
    traffic
}

/// Spreads an index over 64 bits (the finalizer of `SplitMix64`).
fn mix(index: u64) -> u64 {
    let value = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^ (value >> 27)
}

/// Changes what differs between packets and flows; never a length, a protocol or a tunnel's port.
fn vary(frame: &mut [u8], decoded: &Decoded, noise: u64) {
    for tunnel in decoded.encapsulations() {
        vary_network(frame, &tunnel.carrier, noise);
    }
    let Some(network) = &decoded.network else { return };
    vary_network(frame, network, noise);
    let transport = network.offset as usize + network.header_length as usize;
    if network.protocol == 6 {
        xor(frame, transport, &(noise as u16 & 0x0fff).to_be_bytes());
        xor(frame, transport + 4, &(noise as u32).to_be_bytes());
        xor(frame, transport + 8, &((noise >> 32) as u32).to_be_bytes());
    }
    xor(frame, decoded.payload.offset as usize, &noise.to_be_bytes());
}

fn vary_network(frame: &mut [u8], network: &Network, noise: u64) {
    let at = network.offset as usize;
    match (network.header_length, network.is_ipv4()) {
        (0, _) => {}
        (_, true) => {
            xor(frame, at + 4, &(noise as u16).to_be_bytes());
            xor(frame, at + 14, &(noise as u16 & 0x03ff).to_be_bytes());
        }
        (_, false) => xor(frame, at + 22, &(noise as u16 & 0x03ff).to_be_bytes()),
    }
}

fn xor(frame: &mut [u8], at: usize, noise: &[u8]) {
    for (byte, noise) in frame.iter_mut().skip(at).zip(noise) {
        *byte ^= noise;
    }
}

/// What a run found, so that the work cannot be optimised away and every packet is accounted for.
#[derive(Debug, Default)]
struct Found {
    decoded: u64,
    rows: u64,
    no_ip: u64,
    malformed: u64,
    checksum: u64,
}

fn decode_all(traffic: &Traffic) -> Found {
    let (config, mut out, mut found) = (DecodeConfig::default(), Decoded::default(), Found::default());
    for frame in &traffic.frames {
        match decode(&config, frame.link, traffic.bytes_of(frame), frame.original_length, &mut out) {
            Ok(()) => found.decoded += 1,
            Err(_) => found.malformed += 1,
        }
        found.checksum ^= u64::from(black_box(&out).payload.length);
    }
    found
}

fn identify_all(traffic: &Traffic) -> Found {
    let key = IdentityKey(*b"sixteen byte key");
    observe_all(traffic, &key, |flow, row, found| {
        for segment in segments(flow, &row, &key) {
            found.checksum ^= segment.k0;
        }
        found.rows += 1;
    })
}

/// What an agent does that samples.
fn sample_all(traffic: &Traffic) -> Found {
    let key = IdentityKey(*b"sixteen byte key");
    let sampler = Sampler::new(key, Threshold::one_in(16));
    observe_all(traffic, &key, |flow, row, found| found.rows += u64::from(sampler.keeps(flow, &row)))
}

fn observe_all(
    traffic: &Traffic,
    key: &IdentityKey,
    mut take: impl FnMut(&FlowKey, Observation, &mut Found),
) -> Found {
    let (config, mut out, mut found) = (DecodeConfig::default(), Decoded::default(), Found::default());
    for (index, frame) in traffic.frames.iter().enumerate() {
        let bytes = traffic.bytes_of(frame);
        if decode(&config, frame.link, bytes, frame.original_length, &mut out).is_err() {
            found.malformed += 1;
            continue;
        }
        found.decoded += 1;
        let capture = Capture { time_nanos: index as i64, gso: Gso::UNKNOWN };
        let observed = observe(&out, bytes, capture, key, &mut |flow, row| {
            take(flow, row, &mut found);
            black_box((flow, row));
        });
        found.no_ip += u64::from(observed.is_err());
    }
    found
}

fn report(what: &str, runs: usize, traffic: &Traffic, run: fn(&Traffic) -> Found) {
    let mut seconds: Vec<f64> = Vec::new();
    let mut found = Found::default();
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        found = black_box(run(traffic));
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let rate = |seconds: f64| traffic.frames.len() as f64 / seconds / 1e6;
    println!(
        "{what}: {:.2} Mpps per core, median of {} (slowest {:.2}, fastest {:.2}); {found:?}",
        rate(seconds[seconds.len() / 2]),
        seconds.len(),
        rate(seconds[seconds.len() - 1]),
        rate(seconds[0]),
    );
}

/// How fast super-packets of 45 segments expand, K0 of each segment included.
fn report_expansion(runs: usize) {
    const ROWS: u32 = 200_000;
    let key = IdentityKey(*b"sixteen byte key");
    let flow = FlowKey { protocol: protocol::TCP, ..FlowKey::UNSPECIFIED };
    let mut row = Observation {
        gso_type: gso::TCPV4,
        gso_size: 1448,
        payload_length: 65_160,
        ..Observation::default()
    };
    let mut rates: Vec<f64> = Vec::new();
    for _ in 0..runs.max(1) {
        let (start, mut count, mut checksum) = (Instant::now(), 0_u64, 0);
        for index in 0..ROWS {
            row.tcp_seq = index.wrapping_mul(65_160);
            for segment in segments(&flow, &row, &key) {
                count += 1;
                checksum ^= segment.k0;
            }
        }
        black_box(checksum);
        rates.push(count as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    println!("super-packets to segments with k0: {:.1} M segments/s per core", rates[rates.len() / 2]);
}

fn write(traffic: &Traffic, path: &Path) -> Result<(), Box<dyn Error>> {
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(BufWriter::with_capacity(1 << 20, File::create(path)?), header)?;
    let ethernet = traffic.frames.iter().filter(|frame| frame.link == LinkType::Ethernet);
    let mut written = 0;
    for (index, frame) in ethernet.enumerate() {
        let time = Duration::from_micros(index as u64);
        let packet = RawPcapPacket {
            ts_sec: time.as_secs() as u32,
            ts_frac: time.subsec_micros(),
            incl_len: frame.captured as u32,
            orig_len: frame.original_length,
            data: traffic.bytes_of(frame).into(),
        };
        writer.write_raw_packet(&packet)?;
        written += 1;
    }
    writer.flush()?;
    println!("{written} packets written to {}", path.display());
    Ok(())
}
