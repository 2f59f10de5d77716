//! From an agent's stream over mutual TLS to committed, beside writing the same bytes to a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::program::{self, number_before};
use super::spread::Spread;
use super::table::{Row, Table};
use super::{Options, folder};

/// Millions of observations in a run, streams, and rows in a batch.
const LOAD: [&str; 3] = ["12", "2", "4096"];

/// Bytes of one plain write.
const WRITE_BYTES: usize = 1 << 20;
/// Plain writes between two fsyncs; a group commit waits for no more bytes than these.
const WRITES_PER_SYNC: usize = 16;

/// Adds the rate of ingest.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let folder = folder()?;
    let (mut committed, mut written, mut bytes_each) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..options.rounds.max(1) {
        let printed = program::run(program::example("ingest_rate")?, &LOAD)?.stdout;
        let observations = number_before(&printed, " observations,")?;
        bytes_each = number_before(&printed, " bytes each")?;
        committed.push(number_before(&printed, " observations/s")? / 1e3);
        let seconds = write(&folder.path().join("plain"), (observations * bytes_each) as usize)?;
        written.push(observations / seconds / 1e3);
    }
    let (committed, written) = (Spread::from_takes(committed)?, Spread::from_takes(written)?);
    let name =
        "bytes per observation, batches of ingest: random times, acknowledgements, hashes and outer IP-IDs";
    table.add(Row::new(name, format!("{bytes_each:.1}")).aim("≤ 16"));
    let name = format!("ingest over mTLS to committed, k observations/s of {bytes_each:.1} bytes");
    let beside = format!("the same bytes written and fsynced in groups of 16 MiB: {written:.0}");
    table.add(
        Row::new(name, format!("{committed:.0}"))
            .aim("≥ 500")
            .beside(beside)
            .ratio(committed.median / written.median),
    );
    Ok(())
}

/// Seconds to write this many bytes to stable storage.
fn write(path: &Path, bytes: usize) -> Result<f64> {
    let noise: Vec<u8> = (0..WRITE_BYTES).map(|_| rand::random()).collect();
    let started = Instant::now();
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    for index in 0..bytes.div_ceil(WRITE_BYTES) {
        file.write_all(&noise[..WRITE_BYTES.min(bytes - index * WRITE_BYTES)])?;
        if (index + 1) % WRITES_PER_SYNC == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    Ok(started.elapsed().as_secs_f64())
}
