//! What hostile batches may make the coordinator set aside. Alone in its process, because it measures it.

mod common;

use common::agent::{batch, columns, realtime_nanos};
use common::forged::Forged;
use common::{Fabric, running, until};
use lastseen_coordinator::limits;
use lastseen_proto::limits as wire;

/// The most memory this process had at once, in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn small_batches_that_unpack_to_the_most_there_may_be_take_little_memory_together() {
    const BATCHES: u64 = 64;
    const ROOM: usize = 192 << 20;
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let now = realtime_nanos();
    let rows = columns(wire::BATCH_ROWS as usize, now, 0);
    let mut swollen = batch(&id, agent.incarnation, 0, now, &rows);
    let forged = Forged::of(&swollen);
    let mut raw = forged.raw();
    raw.resize(wire::RAW_BYTES as usize, 0);
    swollen.columns = forged.with_raw(&raw).sealed().into();
    // Forgets the peak so far, proc(5).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_bytes();
    let mut streams = Vec::new();
    for stream in 0..limits::BATCH_STREAMS_PER_NODE as u64 {
        let mut publisher = agent.publish().await;
        let batches = (0..BATCHES).map(|number| {
            let mut batch = swollen.clone();
            batch.key.as_mut().unwrap().sequence = stream * BATCHES + number;
            batch
        });
        let batches: Vec<_> = batches.collect();
        streams.push(tokio::spawn(async move { publisher.send(batches).await }));
    }
    for stream in streams {
        let (committed, refused) = stream.await.unwrap();
        assert!(committed.is_empty() && refused.iter().all(|(_, why)| why.contains("bytes too many")));
    }
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    until("room for a stream", async || agent.try_publish().await.is_ok()).await;
    fabric.stop().await;
}
