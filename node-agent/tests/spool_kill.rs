//! Processes that fill a spool and are killed in the middle of it, one after the other. Whatever one of them was told it
//! had handed over, the next one finds, in order and unaltered; what was acknowledged and removed does not come back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lastseen_node_agent::metrics::Metrics;
use lastseen_node_agent::spool::{Fsync, Settings, Spool};
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};
use rand::Rng;

/// Tells a child what to do: `directory incarnation`.
const VARIABLE: &str = "SPOOL_KILL";
const ROUNDS: u64 = 20;
const THREADS: u32 = 4;

/// A batch by incarnation, point and sequence.
type Name = (u64, u32, u64);

fn main() {
    match std::env::var(VARIABLE) {
        Ok(task) => {
            let (directory, incarnation) = task.rsplit_once(' ').unwrap();
            fill(Path::new(directory), incarnation.parse().unwrap());
        }
        Err(_) => kill_in_rounds(),
    }
}

fn open(directory: &Path, incarnation: u64) -> (Spool, Arc<Metrics>) {
    let metrics = Metrics::registered().0;
    let settings = Settings { directory: directory.into(), max_bytes: 1 << 28, fsync: Fsync::Close };
    (Spool::open(settings, incarnation, metrics.clone()).unwrap(), metrics)
}

/// What it holds follows from its name.
fn batch((incarnation, index, sequence): Name) -> ObservationBatch {
    let point = ObservationPoint { index, ..Default::default() };
    let capture_id = format!("c-{}", index % 2);
    let key = BatchKey { capture_id, point: Some(point), incarnation, sequence };
    let mixed = (incarnation << 40 | u64::from(index) << 32 | sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let columns = vec![(mixed >> 56) as u8; (mixed >> 20) as usize % 40_000];
    ObservationBatch { key: Some(key), columns: columns.into(), ..Default::default() }
}

/// A child: fills the spool from several threads until it is killed, and says what was taken.
fn fill(directory: &Path, incarnation: u64) {
    let (spool, _) = open(directory, incarnation);
    std::thread::scope(|scope| {
        for index in 0..THREADS {
            let spool = &spool;
            scope.spawn(move || {
                for sequence in 0.. {
                    assert!(spool.offer(batch((incarnation, index, sequence)), false));
                    // One write: the parent reads whole lines or none.
                    let line = format!("{index} {sequence}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    std::io::stdout().flush().unwrap();
                }
            });
        }
    });
}

#[allow(clippy::disallowed_methods)] // This test itself.
fn child_killed_after(directory: &Path, incarnation: u64, lines: usize) -> BTreeSet<Name> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VARIABLE, format!("{} {incarnation}", directory.display())).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut taken = Vec::new();
    taken.extend(output.by_ref().take(lines).map(Result::unwrap));
    child.kill().unwrap();
    child.wait().unwrap();
    // It went on until the signal came.
    taken.extend(output.map_while(Result::ok));
    let name = |line: &String| {
        let (index, sequence) = line.split_once(' ')?;
        Some((incarnation, index.parse().ok()?, sequence.parse().ok()?))
    };
    assert!(taken.len() >= lines, "the child ended by itself");
    taken.iter().filter_map(name).collect()
}

/// Everything in the spool, checked against its name and for order.
fn found(spool: &Spool) -> BTreeSet<Name> {
    let (mut at, mut names, mut last) = (0, BTreeSet::new(), BTreeMap::new());
    let mut incarnations = Vec::new();
    while let Some((id, _)) = spool.after(at) {
        let found = spool.get(id).unwrap().unwrap();
        let key = found.key.clone().unwrap();
        let name = (key.incarnation, key.point.unwrap().index, key.sequence);
        assert_eq!(found, batch(name), "{name:?}");
        let before = last.insert((name.0, name.1), name.2);
        assert!(before.is_none_or(|before| before < name.2), "{name:?} comes behind {before:?}");
        incarnations.push(name.0);
        names.insert(name);
        at = id;
    }
    assert!(incarnations.is_sorted(), "older processes first");
    names
}

fn kill_in_rounds() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("spool");
    let mut random = rand::rng();
    let (mut waiting, mut settled) = (BTreeSet::new(), BTreeSet::new());
    let (mut sent, mut damaged, mut unsaid) = (0, 0, 0);
    for incarnation in 1..=ROUNDS {
        let taken = child_killed_after(&directory, incarnation, random.random_range(1..300));
        sent += taken.len();
        waiting.extend(taken);
        let (spool, metrics) = open(&directory, 1000 + incarnation);
        let names = found(&spool);
        let lost: Vec<_> = waiting.difference(&names).collect();
        assert_eq!(lost, Vec::<&Name>::new(), "lost in round {incarnation}");
        for name in names.difference(&waiting) {
            // Written in the last moment, or settled while its neighbours were not.
            assert!(name.0 == incarnation || settled.contains(name), "{name:?} comes from nowhere");
            unsaid += usize::from(name.0 == incarnation);
        }
        // Each thread is in the middle of one record at most.
        damaged += metrics.spool_damaged_records.get();
        assert!(metrics.spool_damaged_records.get() <= u64::from(THREADS) * incarnation);
        waiting = names;
        let gone: Vec<Name> = waiting.iter().copied().filter(|_| random.random_bool(0.6)).collect();
        for name in gone {
            assert!(spool.settle(batch(name).key.as_ref().unwrap()));
            waiting.remove(&name);
            settled.insert(name);
        }
    }
    let (spool, _) = open(&directory, 9_999);
    for name in found(&spool) {
        assert!(spool.settle(batch(name).key.as_ref().unwrap()));
    }
    assert_eq!(spool.waiting(), (0, 0));
    drop(spool);
    let left: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    println!(
        "{ROUNDS} processes killed; of {sent} batches they were told are spooled none was lost; {unsaid} more were found, \
         {damaged} torn records were met"
    );
}
