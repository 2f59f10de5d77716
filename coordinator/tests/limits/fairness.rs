//! What one peer does costs the others nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lastseen_coordinator::limits;
use lastseen_proto::v1;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::common::agent::{Agent, Publisher, batch, columns, realtime_nanos};
use crate::common::{Fabric, PATIENCE, is_final, running, until};

/// A well-behaved agent with a capture and a stream of batches, beside which another may do its worst.
async fn well_behaved(fabric: &Fabric) -> (Agent, Publisher, String) {
    let mut agent = Agent::connect(fabric, "node-good", 7, &[]).await;
    let id = running(fabric, &mut agent, 60_000).await;
    let stream = agent.publish().await;
    (agent, stream, id)
}

#[tokio::test]
async fn who_calls_too_often_is_refused_and_the_others_are_not() {
    let fabric = Fabric::start().await;
    let (good, mut stream, id) = well_behaved(&fabric).await;
    let greedy = FleetServiceClient::new(fabric.channel("viewer", "greedy").await);
    let mut calls = 0;
    let refused = loop {
        // Many at once: one after the other could be slow enough to be allowed.
        let callers = (0..limits::STREAMS_PER_CONNECTION).map(|_| {
            let mut greedy = greedy.clone();
            async move { greedy.list_nodes(v1::ListNodesRequest {}).await }
        });
        let answers = callers.collect::<tokio::task::JoinSet<_>>().join_all().await;
        calls += answers.len();
        if let Some(refused) = answers.into_iter().find_map(Result::err) {
            break refused;
        }
        assert!(calls < 100_000, "it is never refused");
    };
    assert!(calls > limits::CALLS_AT_ONCE as usize, "after {calls} calls");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let expected =
        "spiffe://lastseen/viewer/greedy calls more often than 50 times a second, the limit; slow down";
    assert_eq!(refused.message(), expected);
    assert!(fabric.counter_for("refused_calls", "rate") >= 1);
    fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    assert_eq!(stream.send(vec![good.batch(&id, 0)]).await.0, [0]);
    fabric.stop().await;
}

#[tokio::test]
async fn who_talks_too_much_waits_and_the_others_do_not() {
    let fabric = Fabric::start().await;
    let (good, mut stream, id) = well_behaved(&fabric).await;
    let greedy = Agent::connect(&fabric, "node-greedy", 1, &[]).await;
    let delayed = || fabric.counter("delayed_messages");
    // As many as may come at once, the clock's included.
    for _ in 0..limits::MESSAGES_AT_ONCE as usize / 2 {
        greedy.beat(SystemTime::now()).await;
    }
    until("all of them were heard", async || {
        greedy.network("eth-last").await;
        let request = v1::GetNodeRequest { name: "node-greedy".into() };
        let node = fabric.nodes().await.get_node(request).await.unwrap().into_inner().node.unwrap();
        node.topology.is_some_and(|topology| topology.interfaces.iter().any(|one| one.name == "eth-last"))
    })
    .await;
    assert_eq!(delayed(), 0, "they are within the limit");
    let chatter = tokio::spawn(async move {
        loop {
            greedy.beat(SystemTime::now()).await;
        }
    });
    until("it has to wait", async || delayed() > 0).await;
    chatter.abort();
    // A bucket of its own: none of these waits, however many the other still has under way.
    for _ in 0..limits::MESSAGES_AT_ONCE as usize / 2 {
        good.status(&id, v1::CaptureState::Running, "", 0).await;
    }
    assert_eq!(stream.send(vec![good.batch(&id, 0)]).await.0, [0]);
    good.status(&id, v1::CaptureState::Completed, "", 1).await;
    fabric.follow(&id, is_final).await;
    fabric.stop().await;
}

#[tokio::test]
async fn a_message_above_the_limit_costs_its_sender_the_stream_and_nobody_else() {
    let fabric = Fabric::start().await;
    let (good, mut stream, id) = well_behaved(&fabric).await;
    let mut greedy = Agent::connect(&fabric, "node-greedy", 1, &[]).await;
    let greedys = running(&fabric, &mut greedy, 60_000).await;
    let mut large = greedy.batch(&greedys, 0);
    let mut theirs = greedy.publish().await;
    // Above what one batch may be: refused by its key.
    large.columns = vec![0; limits::BATCH_BYTES + 1].into();
    let (_, refused) = theirs.send(vec![large.clone()]).await;
    assert!(refused[0].1.contains("bytes, above the limit of 1048576"), "{refused:?}");
    assert_eq!(theirs.send(vec![greedy.batch(&greedys, 1)]).await.0, [1]);
    // Above what one message may be: it is not even read.
    large.columns = vec![0; limits::MESSAGE_BYTES + 1].into();
    theirs.batches.send(large).await.unwrap();
    let status = theirs.acks.message().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(stream.send(vec![good.batch(&id, 0)]).await.0, [0]);
    assert_eq!(greedy.publish().await.send(vec![greedy.batch(&greedys, 2)]).await.0, [2]);
    fabric.stop().await;
}

#[tokio::test]
async fn a_connection_has_no_more_calls_open_than_the_limit() {
    let fabric = Fabric::start().await;
    let (good, mut stream, id) = well_behaved(&fabric).await;
    let mut greedy = FleetServiceClient::new(fabric.channel("viewer", "greedy").await);
    let mut open = Vec::new();
    for _ in 0..limits::STREAMS_PER_CONNECTION {
        open.push(greedy.watch_nodes(v1::WatchNodesRequest {}).await.unwrap());
    }
    let mut waiting = tokio::spawn(async move { greedy.watch_nodes(v1::WatchNodesRequest {}).await });
    assert_eq!(stream.send(vec![good.batch(&id, 0)]).await.0, [0]);
    fabric.nodes().await.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    assert!(futures_util::poll!(&mut waiting).is_pending(), "one more than the limit waits for its turn");
    open.pop();
    waiting.await.unwrap().unwrap();
    fabric.stop().await;
}

#[tokio::test]
async fn an_agent_that_takes_no_answers_holds_up_itself_alone() {
    let fabric = Fabric::start().await;
    let (good, mut stream, id) = well_behaved(&fabric).await;
    let mut greedy = Agent::connect(&fabric, "node-greedy", 1, &[]).await;
    let greedys = running(&fabric, &mut greedy, 60_000).await;
    let mut deaf = Vec::new();
    for number in 0..limits::BATCH_STREAMS_PER_NODE as u64 {
        let theirs = greedy.publish().await;
        // As much as it gets rid of, without ever reading what comes back.
        let mut sequence = number << 32;
        while let Ok(place) = theirs.batches.try_reserve() {
            let mut batch = greedy.batch(&greedys, sequence);
            batch.columns = vec![7; limits::BATCH_BYTES - 4_096].into();
            place.send(batch);
            sequence += 1;
        }
        deaf.push(theirs);
    }
    for sequence in 0..20 {
        assert_eq!(stream.send(vec![good.batch(&id, sequence)]).await.0, [sequence]);
    }
    fabric.stop().await;
}

/// A stream that has another batch under way for each one that was answered; counts the answers.
fn flood(
    mut stream: Publisher,
    batch: v1::ObservationBatch,
    first: u64,
    answered: Arc<AtomicU64>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let sender = stream.batches.clone();
        let sending = async {
            for sequence in first.. {
                let mut batch = batch.clone();
                batch.key.as_mut().unwrap().sequence = sequence;
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        };
        let counting = async {
            while let Ok(Some(acks)) = stream.acks.message().await {
                assert!(acks.refused.is_empty() && acks.failed.is_empty(), "{acks:?}");
                answered.fetch_add(acks.committed.len() as u64, Ordering::Relaxed);
            }
        };
        tokio::join!(sending, counting);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_floods_holds_up_no_other() {
    const UNDER_WAY: u64 = (limits::BATCH_STREAMS_PER_NODE * limits::BATCHES_PER_STREAM) as u64;
    let (fabric, [mut greedy, mut modest]) = Fabric::with_two().await;
    let floods_for = running(&fabric, &mut greedy, 600_000).await;
    let id = running(&fabric, &mut modest, 600_000).await;
    let now = realtime_nanos();
    let large = batch(&floods_for, greedy.incarnation, 0, now, &columns(1_024, now, 0));
    let answered = Arc::new(AtomicU64::new(0));
    let mut floods = Vec::new();
    for stream in 0..limits::BATCH_STREAMS_PER_NODE as u64 {
        let publisher = greedy.publish().await;
        floods.push(flood(publisher, large.clone(), stream << 24, answered.clone()));
    }
    let so_far = || answered.load(Ordering::Relaxed);
    let mut stream = modest.publish().await;
    let mut overtaken = Vec::new();
    for sequence in 0..11 {
        let before = so_far();
        until("more of the flood", async || so_far() > before).await;
        let before = so_far();
        let turn = tokio::time::timeout(PATIENCE, stream.send(vec![modest.batch(&id, sequence)]));
        assert_eq!(turn.await.expect("its turn").0, [sequence]);
        overtaken.push(so_far() - before);
    }
    // It has its turn behind what the flood has under way; the rest is what the machine does meanwhile.
    overtaken.sort_unstable();
    assert!(overtaken[5] <= 4 * UNDER_WAY, "{overtaken:?}");
    floods.iter().for_each(JoinHandle::abort);
    fabric.stop().await;
}
