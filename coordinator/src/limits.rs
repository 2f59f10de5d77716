//! Every limit of the coordinator, in one place; those that agents keep to as well are the wire's.

use std::time::Duration;

pub use lastseen_proto::limits::{
    BATCH_BYTES, BATCHES_PER_POINT, CAPTURE_ID_BYTES, CAPTURES_PER_NODE, DEFAULT_SNAP_LENGTH, DURATION_NANOS,
    FILTER_BYTES, LEAD_NANOS, LEAST_SAMPLING_THRESHOLD, MESSAGE_BYTES, MISSED_NANOS, PROBE_PLACES,
    PROBE_REPORT_BYTES, PROBE_SERVERS, PROBE_TARGETS, PROBES_PER_NODE, SNAP_LENGTH, SPOOLED_POINTS,
    TAIL_NANOS, TIME_SLACK_NANOS, TRANSLATIONS,
};

use crate::model::{MILLISECOND, SECOND};

/// Bytes of a job as it is asked for: with as many nodes as it may have, each with the longest name of DNS.
pub const JOB_BYTES: usize = 512 << 10;
/// Bytes of every other request of a client.
pub const REQUEST_BYTES: usize = 64 << 10;
/// Captures that have not ended, in the whole fabric.
pub const CAPTURES_PER_FABRIC: usize = 8;
/// Window when the caller names none.
pub const DEFAULT_DURATION_NANOS: i64 = 60 * SECOND;
/// Shortest window: below it there is less than the clocks of two nodes may be apart and a round trip takes.
pub const LEAST_DURATION_NANOS: i64 = 100 * MILLISECOND;
/// Furthest start; armed nodes hold their rings open until then.
pub const START_AHEAD_NANOS: i64 = 3600 * SECOND;
/// Bytes of a capture's name, a label's key or a label's value.
pub const NAME_BYTES: usize = 63;
/// Labels of a capture.
pub const LABELS: usize = 32;
/// Nodes of one capture.
pub const NODES_PER_CAPTURE: usize = 1_000;
/// Interfaces a capture may name.
pub const INTERFACES: usize = 64;
/// Bytes of an interface name, IFNAMSIZ - 1.
pub const INTERFACE_BYTES: usize = 15;
/// Bytes of a network namespace's name.
pub const NETNS_BYTES: usize = 255;

/// Observation points of one node in one capture.
pub const POINTS_PER_NODE: usize = 512;
/// Coverage notes kept of one node in one capture.
pub const COVERAGE_NOTES: usize = 64;
/// Refused batches of one node told apart in one capture; more than that count as missing.
pub const REFUSED_BATCHES: usize = 4_096;
/// Bytes kept of a text that an agent sends: a reason, a note, a version.
pub const AGENT_TEXT_BYTES: usize = 1_024;
/// Capabilities of one agent.
pub const CAPABILITIES: usize = 64;

/// Batches of one stream between arrival and acknowledgement.
pub const BATCHES_PER_STREAM: usize = 64;
/// Bytes of batches in memory between arrival and acknowledgement, over all streams.
pub const INGEST_BYTES: usize = 128 << 20;
/// Bytes a group commit waits for at most.
pub const GROUP_BYTES: usize = 16 << 20;
/// Time a group commit waits for more batches.
pub const GROUP_DELAY: Duration = Duration::from_millis(50);
/// Free room in the data directory below which the coordinator is not ready: an observation file's worth.
pub const FREE_BYTES: u64 = 64 << 20;
/// Size at which the next observation file is begun.
pub const FILE_BYTES: u64 = 64 << 20;
/// Batches that a correlation run asks an object store for before it needs them.
pub const OBJECTS_AHEAD: usize = 16;
/// A write to an object store is tried again this long; then agents keep the batches and send them again.
pub const OBJECT_WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// A read from an object store is tried again this long; then the correlation run fails.
pub const OBJECT_READ_PATIENCE: Duration = Duration::from_mins(3);
/// An observation file without a row that is younger may be a commit under way, here or in another coordinator; an older
/// one is garbage.
pub const GARBAGE_AGE: Duration = Duration::from_hours(1);
/// Between two looks for captures that are to be deleted.
pub const RETENTION_INTERVAL: Duration = Duration::from_mins(1);
/// Between two collections of garbage.
pub const GARBAGE_INTERVAL: Duration = Duration::from_hours(1);
/// A write that is not committed within this time never will be, whatever froze the process: well before its file is
/// taken for garbage, by clocks that may differ.
pub const COMMIT_AGE: Duration = Duration::from_mins(20);

/// Connections of one agent's identity at once: one, and those that a broken network left behind.
pub const CONNECTIONS_PER_AGENT: usize = 8;
/// Connections of an operator's or a viewer's identity at once.
pub const CONNECTIONS_PER_PERSON: usize = 64;
/// Control streams of one node at once; a newer one ends an older one.
pub const CONTROL_STREAMS_PER_NODE: usize = 4;
/// Streams of batches of one node at once.
pub const BATCH_STREAMS_PER_NODE: usize = 4;
/// What a node says of itself is stored, and its network announced, this often at most, over all its control streams;
/// what it said in between is overtaken.
pub const TOPOLOGY_INTERVAL: Duration = Duration::from_secs(1);
/// A connection without a call or stream for this long is closed.
pub const CONNECTION_IDLE: Duration = Duration::from_mins(5);
/// Between the end of a denied caller's streams, which tells it why, and that of its connection.
pub const DENIED_GRACE: Duration = Duration::from_secs(1);
/// Calls and new streams of one identity a second, over all its connections.
pub const CALLS_PER_SECOND: f64 = 50.0;
/// Calls of one identity that may come at once after a rest.
pub const CALLS_AT_ONCE: f64 = 500.0;
/// Messages of one node a second, over all its control streams; its batches aside.
pub const MESSAGES_PER_SECOND: f64 = 100.0;
/// Messages of one node that may come at once after a rest.
pub const MESSAGES_AT_ONCE: f64 = 1_000.0;
/// Bytes of one node's batches in memory between arrival and acknowledgement: what one agent has too much waits in its
/// spool, and the others go on.
pub const INGEST_BYTES_PER_NODE: usize = 16 << 20;
/// Bytes of a policy file.
pub const POLICY_BYTES: u64 = 1 << 20;
/// How often the policy file is looked at; a change is in force once it was seen twice.
pub const POLICY_INTERVAL: Duration = Duration::from_millis(250);
/// Records of the audit that are kept.
pub const AUDIT_RECORDS: u64 = 100_000;
/// Records of the audit that may wait for the database.
pub const AUDIT_QUEUE: usize = 1_024;
/// A download, or a refusal, of the same thing by the same identity is recorded this often at most.
pub const AUDIT_INTERVAL: Duration = Duration::from_mins(1);
/// Calls and streams open at once on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 64;
/// Times in [`TAKEOVER_NANOS`] that another process may take over a node's live control stream before the node says that
/// its certificate serves several agents.
pub const TAKEOVERS: usize = 3;
/// See [`TAKEOVERS`].
pub const TAKEOVER_NANOS: i64 = 60 * SECOND;
/// Messages to one agent that may wait.
pub const AGENT_QUEUE: usize = 64;
/// Events of one capture that may wait.
pub const CAPTURE_QUEUE: usize = 1_024;
/// Node changes that a watcher may lag behind before it is sent every node again.
pub const WATCH_QUEUE: usize = 256;
/// Largest page of audit records.
pub const AUDIT_PAGE: u32 = 1_000;
/// Page of audit records when the caller names none.
pub const DEFAULT_AUDIT_PAGE: u32 = 100;
/// Largest page of captures.
pub const CAPTURES_PAGE: u32 = 1_000;
/// Page of captures when the caller names none.
pub const DEFAULT_CAPTURES_PAGE: u32 = 100;
/// Largest page of flow records or lost packets.
pub const RECORDS_PAGE: u32 = 10_000;
/// Page of flow records or lost packets when the caller names none.
pub const DEFAULT_RECORDS_PAGE: u32 = 1_000;

/// Arming ends this long after the last node that got ready; who has not by then is left out.
pub const ARM_NANOS: i64 = 5 * SECOND;
/// Arming ends at the latest after this long: half the time that agents hold their rings without a window.
pub const ARM_LONGEST_NANOS: i64 = 30 * SECOND;
/// A window is fixed before the first node that got ready has waited for this long: at 60 s it gives its rings back.
pub const ARMED_NANOS: i64 = 50 * SECOND;
/// An agent whose coordinator is gone, or frozen, has found another one by then.
pub const MOVE_NANOS: i64 = 15 * SECOND;
/// Between the commit of a window and its start, so that every node hears of it in time; for each
/// further node [`START_LEAD_PER_NODE_NANOS`] more.
pub const START_LEAD_NANOS: i64 = SECOND / 2;
/// See [`START_LEAD_NANOS`].
pub const START_LEAD_PER_NODE_NANOS: i64 = MILLISECOND;
/// After the tail, draining goes on while news or batches keep arriving at least this often.
pub const DRAIN_IDLE_NANOS: i64 = 10 * SECOND;
/// After the tail, batches that cannot be stored keep a capture open for this long: as often as a store is asked again.
pub const STORE_TROUBLE_NANOS: i64 = 30 * SECOND;
/// After a restart of the coordinator agents get this long to come back.
pub const RECOVERY_NANOS: i64 = 30 * SECOND;
/// A capture that nobody looked at for so long was not looked at by a process that stood still.
pub const STANDSTILL_NANOS: i64 = 5 * SECOND;
/// Draining ends at the latest this long after the tail.
pub const DRAIN_NANOS: i64 = 300 * SECOND;

/// Memory for the observations of a correlation run, when nothing else is set: 16 million of them, before they go to
/// scratch space.
pub const CORRELATION_MEMORY_BYTES: u64 = 1 << 30;
/// Correlation runs of one capture that may break off with the process.
pub const BROKEN_RUNS: i64 = 2;

/// A capture that its coordinator has not spoken for during this long is taken over by another one, where several share
/// a database.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often coordinators say that they live, and look what the others did.
pub const LEASE_INTERVAL: Duration = Duration::from_secs(1);
/// Counts of a capture that another coordinator leads are not older than this.
pub const TELL: Duration = Duration::from_secs(2);
/// Bytes of the name that a caller gives its call.
pub const REQUEST_ID_BYTES: usize = 64;

/// How often an agent says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// An agent silent for this long is offline.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Clock exchanges at the start of a control stream.
pub const CLOCK_BURST: u32 = 8;
/// Between two exchanges of the burst.
pub const CLOCK_BURST_INTERVAL: Duration = Duration::from_millis(20);
/// Between two exchanges after the burst.
pub const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// At SIGTERM calls under way get this long.
pub const SHUTDOWN: Duration = Duration::from_secs(8);
/// Probes that have not ended, in the whole fabric.
pub const PROBES_PER_FABRIC: usize = 32;
/// Sources of a mesh that all probe each other; of more, each probes some.
pub const MESH_WHOLE: usize = 32;
/// Others that each source of a larger mesh probes unless the caller says how many.
pub const MESH_NEIGHBORS: u32 = 8;
/// Attempts of one source of a probe in a second, over all its targets.
pub const PROBES_PER_SECOND: f64 = 1_000.0;
/// Attempts of one source of a probe in a run, over all its targets.
pub const PROBE_ATTEMPTS: usize = 1_000;
/// Records, names and link-layer addresses that a result tells, of each.
pub const PROBE_FOUND: usize = 16;
/// Bytes of reports that one answer holds.
pub const PROBE_REPORTS_BYTES: usize = 8 << 20;
/// Reports that one answer holds: a run of every source, and more.
pub const PROBE_REPORTS_SHOWN: u32 = 2_000;
/// Reports of a probe that are kept, over all its sources.
pub const PROBE_REPORTS: u64 = 100_000;
/// Bytes of the reports of a probe that are kept, over all its sources, each run taken to be as long as the newest.
pub const PROBE_KEPT_BYTES: u64 = 1 << 30;
/// Probes that one page of a list holds, however many are asked for: each has up to a thousand parts.
pub const PROBES_PAGE: u32 = 100;
/// Runs of a probe whose reports are kept.
pub const PROBE_RUNS: u64 = 1_000;
/// Runs of a probe that one answer shows.
pub const PROBE_RUNS_SHOWN: u32 = 100;
/// Sources of scheduled probes, each with one of its targets, that figures are shown of.
pub const PROBE_SERIES: usize = 20_000;
/// A part that has not reported so long after its run has failed.
pub const PROBE_GRACE_NANOS: i64 = 15 * SECOND;
/// What agents say of probes that may wait for the database.
pub const PROBE_QUEUE: usize = 256;
