//! Batches and messages that no honest agent sends: each is refused with its reason, and what follows is taken.

use crate::common::agent::{Agent, Publisher, batch, columns, realtime_nanos};
use crate::common::forged::{Forged, boastful_frame};
use crate::common::{Fabric, is_final, job, running};
use lastseen_coordinator::limits;
use lastseen_proto::v1::CaptureState::Completed;
use lastseen_proto::v1::ObservationBatch;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::{limits as wire, v1};
use tonic::codegen::CompressionEncoding;
use tonic::codegen::http::Request;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

const SECOND: i64 = 1_000_000_000;

/// What is wrong, what is said of it, and how to make it of a good batch.
type Lie = (&'static str, &'static str, fn(&mut ObservationBatch));

fn forge(batch: &mut ObservationBatch, change: impl FnOnce(&mut Forged)) {
    let mut forged = Forged::of(batch);
    change(&mut forged);
    batch.columns = forged.sealed().into();
}

fn forge_raw(batch: &mut ObservationBatch, change: impl FnOnce(&mut Vec<u8>)) {
    let forged = Forged::of(batch);
    let mut raw = forged.raw();
    change(&mut raw);
    batch.columns = forged.with_raw(&raw).sealed().into();
}

fn point(batch: &mut ObservationBatch) -> &mut v1::ObservationPoint {
    batch.key.as_mut().unwrap().point.as_mut().unwrap()
}

fn sequence(batch: &mut ObservationBatch, sequence: u64) {
    batch.key.as_mut().unwrap().sequence = sequence;
}

/// Of the columns.
const COLUMNS: [Lie; 20] = [
    ("no columns", "columns: cut short in the header", |b| b.columns.clear()),
    ("damage", "columns: checksum mismatch", |b| {
        let mut bytes = b.columns.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        b.columns = bytes.into();
    }),
    ("another format", "columns: batch format 9", |b| forge(b, |f| f.version = 9)),
    ("a count beside them", "rows: 5 claimed, 4 in columns", |b| b.rows += 1),
    ("a count that both tell", "columns: ", |b| {
        b.rows += 1;
        forge(b, |f| f.rows += 1);
    }),
    ("fewer rows than there are", "columns: ", |b| forge(b, |f| (f.rows, f.flows) = (3, 3))),
    ("more flows than rows", "columns: 5 flows, above the limit of 4", |b| forge(b, |f| f.flows = 5)),
    ("fewer flows than there are", "columns: ", |b| forge(b, |f| f.flows -= 1)),
    ("too many rows", "columns: 65537 rows, above the limit of 65536", |b| {
        forge(b, |f| f.rows = wire::BATCH_ROWS + 1);
    }),
    ("rows that are not there", "columns: cut short in", |b| forge(b, |f| f.rows = wire::BATCH_ROWS)),
    ("flows that are not there", "columns: cut short in the flow dictionary", |b| {
        forge(b, |f| (f.rows, f.flows) = (wire::BATCH_ROWS, wire::BATCH_ROWS));
    }),
    ("too long unpacked", "columns: 8388609 raw bytes, above the limit of 8388608", |b| {
        forge(b, |f| f.raw_bytes = wire::RAW_BYTES + 1);
    }),
    ("longer unpacked than it says", "Destination buffer is too small", |b| forge(b, |f| f.raw_bytes -= 1)),
    ("shorter unpacked than it says", "columns: raw bytes: ", |b| forge(b, |f| f.raw_bytes += 1)),
    ("cut short", "cannot be compressed or decompressed", |b| {
        forge(b, |f| f.compressed.truncate(f.compressed.len() - 3));
    }),
    ("bytes behind the columns", "columns: 7 bytes too many", |b| forge_raw(b, |raw| raw.extend([0; 7]))),
    ("a second frame behind the first", "bytes too many", |b| {
        forge(b, |f| f.compressed.extend(f.compressed.clone()));
    }),
    ("a frame in the frame", "columns: ", |b| {
        let inner = Forged::of(b).compressed;
        forge_raw(b, |raw| *raw = inner);
    }),
    ("a bomb", "Destination buffer is too small", |b| {
        let bomb = Forged::of(b).with_raw(&vec![0; 256 << 20]);
        b.columns = Forged { raw_bytes: wire::RAW_BYTES, ..bomb }.sealed().into();
    }),
    ("a frame that declares a tebibyte", "cannot be compressed or decompressed", |b| {
        forge(b, |f| (f.raw_bytes, f.compressed) = (wire::RAW_BYTES, boastful_frame()));
    }),
];

/// Of what stands beside them.
const ENVELOPE: [Lie; 12] = [
    ("too large", "bytes, above the limit of 1048576", |b| b.columns = vec![7; 2 << 20].into()),
    ("an end before its start", "slice: ends at", |b| b.slice_end_nanos = b.slice_start_nanos - 1),
    ("an hour ago", " s away from the capture's window, above the limit of 60 s", |b| {
        b.slice_start_nanos -= 3600 * SECOND;
        b.slice_end_nanos -= 3600 * SECOND;
    }),
    ("tomorrow", " s away from the capture's window, above the limit of 60 s", |b| {
        b.slice_end_nanos += 24 * 3600 * SECOND;
    }),
    ("all times", " s away from the capture's window", |b| {
        (b.slice_start_nanos, b.slice_end_nanos) = (i64::MIN, i64::MAX);
    }),
    ("a clock from nowhere", " s away from the capture's window", |b| {
        b.realtime_minus_monotonic_nanos = i64::MIN;
    }),
    (
        "a packet of another time",
        "columns: a packet 99 s away from its slice, above the limit of 60 s",
        |b| {
            let late = columns(4, b.slice_end_nanos + 100 * SECOND, 1);
            b.columns = lastseen_proto::batch::Encoder::new().unwrap().encode(&late).unwrap().into();
            b.slice_end_nanos += SECOND;
        },
    ),
    ("a threshold that selects nothing", "sampling_threshold: 0 is below the limit of 16777216", |b| {
        b.sampling_threshold = Some(0);
    }),
    ("the highest threshold below the limit", "sampling_threshold: 16777215 is below the limit", |b| {
        b.sampling_threshold = Some(wire::LEAST_SAMPLING_THRESHOLD - 1);
    }),
    (
        "the first sequence beyond the limit",
        "sequence: 4294967296 is not below the limit of 4294967296",
        |b| {
            sequence(b, wire::BATCHES_PER_POINT);
        },
    ),
    ("a sequence from the far future", "sequence: 18446744073709551615 is not below the limit", |b| {
        sequence(b, u64::MAX);
    }),
    ("selection where segments are unknown", "sampling_threshold: a point without segment sizes", |b| {
        b.sampling_threshold = Some(u64::MAX / 2);
        point(b).gso_known = false;
    }),
];

/// Of what it is of: none of them is found again by the capture and the point that the test looks at.
const NAMES: [Lie; 10] = [
    ("no interface", "point: the interface name must have 1 to 15 bytes", |b| point(b).interface.clear()),
    ("a long interface", "point: the interface name must have 1 to 15 bytes", |b| {
        point(b).interface = "i".repeat(limits::INTERFACE_BYTES + 1);
    }),
    ("a long namespace", "point: the name of the network namespace must have at most 255 bytes", |b| {
        point(b).netns = "n".repeat(limits::NETNS_BYTES + 1);
    }),
    ("NUL in a name", "point: a name must not contain NUL", |b| point(b).interface = "eth\0".into()),
    ("no direction", "point: the direction must be IN or OUT", |b| point(b).direction = 0),
    ("a direction from nowhere", "point: the direction must be IN or OUT", |b| point(b).direction = 3),
    ("an unknown capture", "capture \"c-nobody\" does not run", |b| {
        b.key.as_mut().unwrap().capture_id = "c-nobody".into();
    }),
    ("no capture", "capture_id: it must have 1 to 63 bytes", |b| b.key.as_mut().unwrap().capture_id.clear()),
    ("a long capture", "capture_id: it must have 1 to 63 bytes", |b| {
        b.key.as_mut().unwrap().capture_id = "c".repeat(limits::CAPTURE_ID_BYTES + 1);
    }),
    ("NUL in a capture", "capture_id: it must not contain NUL", |b| {
        b.key.as_mut().unwrap().capture_id = "c\0".into();
    }),
];

/// Sends each lie and a good batch behind it on one stream. Returns how many good ones there were.
async fn tell(
    (agent, publisher): (&Agent, &mut Publisher),
    id: &str,
    first: u64,
    lies: impl IntoIterator<Item = &Lie>,
) -> u64 {
    let mut next = first;
    for (what, said, change) in lies {
        let mut bad = agent.batch(id, next);
        change(&mut bad);
        let (committed, refused) = publisher.send(vec![bad]).await;
        assert!(committed.is_empty() && refused[0].1.contains(said), "{what}: {committed:?} {refused:?}");
        assert!(refused[0].1.len() < 200, "{what}: {refused:?}");
        assert_eq!(publisher.send(vec![agent.batch(id, next + 1)]).await, (vec![next + 1], vec![]), "{what}");
        next += 2;
    }
    (next - first) / 2
}

#[tokio::test]
async fn every_lie_is_refused_by_name_and_the_next_batch_on_the_stream_is_stored() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut publisher = agent.publish().await;
    let told = tell((&agent, &mut publisher), &id, 0, COLUMNS.iter().chain(&ENVELOPE)).await;
    let named = tell((&agent, &mut publisher), &id, 2 * told, &NAMES).await;
    assert_eq!(fabric.counter("committed_batches"), told + named);
    // As many as it made: those that lied about what they are of cannot be told from ones that never came.
    agent.status(&id, Completed, "", 2 * told + named).await;
    let done = fabric.follow(&id, is_final).await;
    let note = format!("{told} of {} batches were refused", 2 * told + named);
    assert!(done.nodes[0].coverage[0].contains(&note), "{note}: {:?}", done.nodes[0].coverage);
    fabric.stop().await;
}

#[tokio::test]
async fn what_is_just_within_the_limits_is_stored() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut publisher = agent.publish().await;
    let now = realtime_nanos();
    let rows = columns(wire::BATCH_ROWS as usize, now, 0);
    let most_rows = batch(&id, agent.incarnation, 0, now, &rows);
    let mut last_sequence = agent.batch(&id, wire::BATCHES_PER_POINT - 1);
    last_sequence.sampling_threshold = Some(wire::LEAST_SAMPLING_THRESHOLD);
    let mut long_names = agent.batch(&id, 2);
    point(&mut long_names).interface = "i".repeat(limits::INTERFACE_BYTES);
    point(&mut long_names).netns = "n".repeat(limits::NETNS_BYTES);
    let mut early = agent.batch(&id, 3);
    early.slice_start_nanos -= 55 * SECOND;
    let all = vec![most_rows, last_sequence, long_names, early];
    assert_eq!(publisher.send(all).await, (vec![0, 2, 3, wire::BATCHES_PER_POINT - 1], vec![]));
    fabric.stop().await;
}

#[tokio::test]
async fn a_batch_that_names_nothing_is_refused_and_the_stream_goes_on() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut publisher = agent.publish().await;
    let mut pointless = agent.batch(&id, 0);
    pointless.key.as_mut().unwrap().point = None;
    let key = pointless.key.clone();
    for (batch, key, said) in [
        (ObservationBatch { key: None, ..agent.batch(&id, 0) }, None, "key: missing; a batch needs one"),
        (pointless, key, "key: it names no observation point; a batch needs one"),
    ] {
        publisher.batches.send(batch).await.unwrap();
        let answer = publisher.answer().await;
        assert_eq!(answer.refused, [v1::RefusedBatch { key, reason: said.into() }]);
        assert!(answer.committed.is_empty() && answer.failed.is_empty(), "{answer:?}");
    }
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await, (vec![0], vec![]));
    fabric.stop().await;
}

#[tokio::test]
async fn nobody_adds_to_what_another_node_saw() {
    let (fabric, [mut a, mut b]) = Fabric::with_two().await;
    let id = running(&fabric, &mut a, 60_000).await;
    let mut theirs = b.publish().await;
    let (_, refused) = theirs.send(vec![a.batch(&id, 0)]).await;
    assert_eq!(refused[0].1, format!("node node-b is not part of capture {id}"));
    let own = running(&fabric, &mut b, 60_000).await;
    assert_eq!(theirs.send(vec![b.batch(&own, 0)]).await, (vec![0], vec![]));
    let batch = a.batch(&id, 0);
    let mut ours = a.publish().await;
    assert_eq!(ours.send(vec![batch.clone()]).await, (vec![0], vec![]));
    let other = ObservationBatch { slice_end_nanos: batch.slice_end_nanos + 1, ..batch.clone() };
    let (_, refused) = ours.send(vec![other]).await;
    assert_eq!(refused[0].1, "a batch of the same key with other contents is stored");
    assert_eq!(ours.send(vec![batch]).await, (vec![0], vec![]));
    fabric.stop().await;
}

/// How the stream ends on which `batch` is sent by `agent`.
async fn ended_by(agent: &mut Agent, batch: ObservationBatch) -> Status {
    let stream = agent.client.publish_observations(tokio_stream::iter([batch])).await;
    match stream {
        Ok(mut stream) => loop {
            match stream.get_mut().message().await {
                Ok(answer) => assert!(answer.is_some_and(|a| a.committed.is_empty()), "it is answered"),
                Err(status) => return status,
            }
        },
        Err(status) => status,
    }
}

#[tokio::test]
async fn what_grpc_itself_refuses_ends_its_stream_alone() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let mut beside = agent.publish().await;
    let large = |agent: &Agent, bytes: usize| ObservationBatch {
        columns: vec![0; bytes].into(),
        ..agent.batch(&id, 0)
    };
    let too_large = large(&agent, limits::MESSAGE_BYTES + 1);
    let status = ended_by(&mut agent, too_large).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("4194304"), "{status}");
    // A quarter of a gigabyte of zeros, a few kilobytes on the wire.
    let bomb = large(&agent, 256 << 20);
    let plain = agent.client.clone();
    agent.client = plain.clone().send_compressed(CompressionEncoding::Zstd);
    let status = ended_by(&mut agent, bomb).await;
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    agent.client = plain;
    assert_eq!(beside.send(vec![agent.batch(&id, 1)]).await, (vec![1], vec![]));
    assert_eq!(agent.publish().await.send(vec![agent.batch(&id, 2)]).await, (vec![2], vec![]));
    fabric.stop().await;
}

#[tokio::test]
async fn requests_are_no_longer_than_the_limits() {
    let fabric = Fabric::start().await;
    // Tag and length take some bytes of a message.
    let text = |bytes: usize| "x".repeat(bytes - 4);
    let mut fleet = FleetServiceClient::new(fabric.channel("operator", "eve").await);
    let get = |bytes| v1::GetNodeRequest { name: text(bytes) };
    let codes = [
        fleet.get_node(get(limits::REQUEST_BYTES)).await.unwrap_err().code(),
        fleet.get_node(get(limits::REQUEST_BYTES + 1)).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::NotFound, Code::OutOfRange]);
    let health = |bytes| HealthCheckRequest { service: text(bytes) };
    let mut client = HealthClient::new(fabric.channel("agent", "node-a").await);
    let codes = [
        client.check(health(limits::REQUEST_BYTES)).await.unwrap_err().code(),
        client.check(health(limits::REQUEST_BYTES + 1)).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::NotFound, Code::OutOfRange]);
    let names: Vec<_> = (0..limits::NODES_PER_CAPTURE).map(|node| format!("{node:0>253}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut captures = fabric.captures().await;
    let largest = captures.start_capture(job(&names, 1_000)).await.unwrap_err();
    assert_eq!(largest.code(), Code::InvalidArgument, "{largest}");
    let more = captures.start_capture(job(&names.repeat(3), 1_000)).await.unwrap_err();
    assert_eq!(more.code(), Code::OutOfRange, "{more}");
    fabric.stop().await;
}

#[tokio::test]
async fn messages_in_a_compression_that_was_not_offered_are_not_unpacked() {
    let fabric = Fabric::start().await;
    for encoding in ["gzip", "deflate", "zstd", "br", "none of these"] {
        let request = Request::post("/lastseen.v1.AgentService/PublishObservations")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", encoding)
            .body(tonic::body::Body::new("\u{1}\0\0\0\u{4}four".to_owned()))
            .unwrap();
        let answer = fabric.channel("agent", "node-a").await.oneshot(request).await.unwrap();
        let code = answer.headers().get("grpc-status").expect("refused at once").to_str().unwrap();
        assert_eq!(code.parse(), Ok(Code::Unimplemented as i32), "{encoding}");
    }
    fabric.stop().await;
}

#[tokio::test]
async fn a_job_with_bad_values_is_refused_before_any_node_hears_of_it() {
    let (fabric, _agent) = Fabric::with_one().await;
    let good = job(&["node-a"], 1_000).spec.unwrap();
    let long = "x".repeat(100);
    let lies = [
        ("filter", v1::CaptureSpec { filter: "\0".into(), ..good.clone() }),
        ("name", v1::CaptureSpec { name: long.clone(), ..good.clone() }),
        ("interfaces", v1::CaptureSpec { interfaces: vec![long], ..good.clone() }),
        ("snap_length", v1::CaptureSpec { snap_length: Some(1), ..good.clone() }),
        ("nodes", v1::CaptureSpec { nodes: vec!["../../etc".into()], ..good.clone() }),
        (
            "duration",
            v1::CaptureSpec { duration: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..good },
        ),
    ];
    for (field, spec) in lies {
        let request = v1::StartCaptureRequest { spec: Some(spec), ..Default::default() };
        let status = fabric.captures().await.start_capture(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(&format!("{field}: ")), "{status}");
    }
    fabric.stop().await;
}
