//! Decoding and identity from memory, beside what tcpdump and tshark make of the same packets.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::program::{self, line_after, number_before};
use super::spread::Spread;
use super::table::{Row, Table};
use super::{Options, folder};

/// Files with these names hold overlay traffic, or nearly only that.
const OVERLAY_FILES: [&str; 5] = ["vxlan", "geneve", "gso-", "bigtcp", "mpls-over"];

/// Packets for tshark, which takes thirty times as long for each.
const TSHARK_PACKETS: u64 = 200_000;

/// What the decoder finds out about a packet, in tshark's words.
const TSHARK_FIELDS: [&str; 16] = [
    "ip.src",
    "ip.dst",
    "ip.id",
    "ip.len",
    "ipv6.src",
    "ipv6.dst",
    "udp.srcport",
    "udp.dstport",
    "vxlan.vni",
    "geneve.vni",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.len",
    "tcp.flags",
];

/// Adds the rates of decoding.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let templates = overlay_files(&options.captures)?;
    let folder = folder()?;
    let file = folder.path().join("all.pcap");
    let short = folder.path().join("short.pcap");
    let packets = write(&templates, options.packets, &file)?;
    let few = write(&templates, TSHARK_PACKETS.min(options.packets), &short)?;

    let [decoding, identifying, sampling] = ours(&templates, options)?;
    let tcpdump = Spread::of(options.rounds, || tcpdump(&file, packets))?;
    let tshark = Spread::of(options.rounds, || tshark(&short, few))?;
    let millions = packets / 1e6;
    table.add(Row::new("decode alone, Mpps per core", decoding));
    table.add(
        Row::new(format!("decode + identity, Mpps per core, {millions:.1} M overlay packets"), identifying)
            .aim("≥ 8")
            .beside(format!("`tcpdump -nr FILE -w /dev/null` {tcpdump}"))
            .ratio(identifying.median / tcpdump.median),
    );
    table.add(Row::new("decode + sampling 1/16, Mpps per core", sampling));
    table.add(
        Row::new(format!("decode + identity, beside tshark on {few:.0} of them"), identifying)
            .beside(format!("`tshark -T fields`, {} fields, {tshark:.3}", TSHARK_FIELDS.len()))
            .ratio(identifying.median / tshark.median),
    );
    Ok(())
}

fn overlay_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("read capture files in {}", folder.display()))?;
    let is_overlay = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        path.extension() == Some(OsStr::new("pcap"))
            && OVERLAY_FILES.iter().any(|start| name.starts_with(start))
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_overlay).collect();
    files.sort();
    if files.is_empty() {
        bail!(
            "no capture files of overlay traffic in {}: name their folder with --captures",
            folder.display()
        );
    }
    Ok(files)
}

/// Writes the traffic into a capture file and returns how many packets it holds.
fn write(templates: &[PathBuf], packets: u64, to: &Path) -> Result<f64> {
    let count = format!("--packets={packets}");
    let mut arguments = vec![OsStr::new(&count), OsStr::new("--write"), to.as_os_str()];
    arguments.extend(templates.iter().map(|path| path.as_os_str()));
    number_before(&program::run(program::example("decode_rate")?, &arguments)?.stdout, " packets written")
}

/// Mpps of decoding, of decoding with identity, and of decoding with sampling; all takes within one process.
fn ours(templates: &[PathBuf], options: &Options) -> Result<[Spread; 3]> {
    let flags = [format!("--packets={}", options.packets), format!("--runs={}", options.rounds)];
    let mut arguments: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
    arguments.extend(templates.iter().map(|path| path.as_os_str()));
    let printed = program::run(program::example("decode_rate")?, &arguments)?.stdout;
    let rates = |label| rates(&printed, label);
    Ok([rates("decode:")?, rates("decode + observe + k0:")?, rates("decode + observe + sample 1/16:")?])
}

/// `LABEL 8.2 Mpps per core, median of 3 (slowest 8.1, fastest 8.4)`.
fn rates(printed: &str, label: &str) -> Result<Spread> {
    let line = line_after(printed, label)?;
    let (_, low) = line.split_once("slowest ").with_context(|| format!("no slowest in {line:?}"))?;
    let (_, high) = low.split_once("fastest ").with_context(|| format!("no fastest in {line:?}"))?;
    Ok(Spread {
        median: number_before(line, " Mpps")?,
        low: number_before(low, ",")?,
        high: number_before(high, ")")?,
    })
}

/// Mpps of copying packets without decoding them.
fn tcpdump(file: &Path, packets: f64) -> Result<f64> {
    let arguments = [OsStr::new("-nr"), file.as_os_str(), OsStr::new("-w"), OsStr::new("/dev/null")];
    Ok(packets / program::run_silent("tcpdump", &arguments)?.elapsed.as_secs_f64() / 1e6)
}

/// Mpps of decoding with tshark, its start included.
fn tshark(file: &Path, packets: f64) -> Result<f64> {
    let mut arguments = vec![OsStr::new("-nr"), file.as_os_str(), OsStr::new("-Tfields")];
    arguments.extend(TSHARK_FIELDS.iter().flat_map(|field| [OsStr::new("-e"), OsStr::new(field)]));
    Ok(packets / program::run_silent("tshark", &arguments)?.elapsed.as_secs_f64() / 1e6)
}
