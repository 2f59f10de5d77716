//! `docs/LIMITS.md` against the constants of the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lastseen_coordinator::limits;
use lastseen_proto::limits as wire;

/// Constants that are no bound on what a peer or a user asks for, but the pace of the programs' own work.
const OWN_PACE: [&str; 49] = [
    "AGENT_QUEUE",
    "ARMED_NANOS",
    "ARM_LONGEST_NANOS",
    "ARM_NANOS",
    "AUDIT_QUEUE",
    "BROKEN_RUNS",
    "CAPTURE_QUEUE",
    "CLOCK_BURST",
    "CLOCK_BURST_INTERVAL",
    "CLOCK_INTERVAL",
    "COMMIT_AGE",
    "DEFAULT_AUDIT_PAGE",
    "DEFAULT_CAPTURES_PAGE",
    "DEFAULT_DURATION_NANOS",
    "DEFAULT_RECORDS_PAGE",
    "DENIED_GRACE",
    "DRAIN_IDLE_NANOS",
    "DRAIN_NANOS",
    "FILE_BYTES",
    "FREE_BYTES",
    "GARBAGE_AGE",
    "GARBAGE_INTERVAL",
    "GROUP_BYTES",
    "GROUP_DELAY",
    "HEARTBEAT",
    "LEASE",
    "LEASE_INTERVAL",
    "MISSED_NANOS",
    "MOVE_NANOS",
    "OBJECTS_AHEAD",
    "OBJECT_READ_PATIENCE",
    "OBJECT_WRITE_PATIENCE",
    "POLICY_INTERVAL",
    "PROBE_GRACE_NANOS",
    "PROBE_HOP_NANOS",
    "PROBE_QUEUE",
    "RECOVERY_NANOS",
    "RETENTION_INTERVAL",
    "SECOND",
    "SHUTDOWN",
    "STANDSTILL_NANOS",
    "START_LEAD_NANOS",
    "START_LEAD_PER_NODE_NANOS",
    "STORE_TROUBLE_NANOS",
    "TAKEOVERS",
    "TAKEOVER_NANOS",
    "TELL",
    "THROUGHPUT_TOKEN_BYTES",
    "WATCH_QUEUE",
];

/// What a row says.
struct Row {
    constant: String,
    value: String,
    test: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rows() -> Vec<Row> {
    let document = read("docs/LIMITS.md");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let lines = document.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let rows = lines.map(cells).filter(|cells: &Vec<String>| cells[0] != "limit");
    rows.map(|cells| {
        let [_, constant, value, _, test] = <[String; 5]>::try_from(cells).expect("five columns");
        Row { constant, value, test }
    })
    .collect()
}

/// `65536` of `65,536 bytes`.
fn number(value: &str) -> String {
    let first = value.split(' ').next().unwrap_or_default();
    first.replace(',', "")
}

macro_rules! known {
    ($($place:ident :: $name:ident),+ $(,)?) => {
        BTreeMap::from([$((stringify!($name), $place::$name.to_string())),+])
    };
}

/// Constants that are one number.
fn numbers() -> BTreeMap<&'static str, String> {
    known![
        limits::AGENT_TEXT_BYTES,
        limits::AUDIT_PAGE,
        limits::AUDIT_RECORDS,
        limits::BATCHES_PER_POINT,
        limits::BATCHES_PER_STREAM,
        limits::BATCH_BYTES,
        limits::BATCH_STREAMS_PER_NODE,
        limits::CALLS_AT_ONCE,
        limits::CALLS_PER_SECOND,
        limits::CAPABILITIES,
        limits::CAPTURES_PAGE,
        limits::CAPTURES_PER_FABRIC,
        limits::CAPTURES_PER_NODE,
        limits::CAPTURE_ID_BYTES,
        limits::CONNECTIONS_PER_AGENT,
        limits::CONNECTIONS_PER_PERSON,
        limits::CONTROL_STREAMS_PER_NODE,
        limits::CORRELATION_MEMORY_BYTES,
        limits::COVERAGE_NOTES,
        limits::DEFAULT_SNAP_LENGTH,
        limits::DURATION_NANOS,
        limits::FILTER_BYTES,
        limits::INGEST_BYTES,
        limits::INGEST_BYTES_PER_NODE,
        limits::INTERFACES,
        limits::INTERFACE_BYTES,
        limits::JOB_BYTES,
        limits::LABELS,
        limits::LEAST_DURATION_NANOS,
        limits::LEAST_SAMPLING_THRESHOLD,
        limits::MESSAGES_AT_ONCE,
        limits::MESSAGES_PER_SECOND,
        limits::MESSAGE_BYTES,
        limits::MESH_NEIGHBORS,
        limits::MESH_WHOLE,
        limits::NAME_BYTES,
        limits::NETNS_BYTES,
        limits::NODES_PER_CAPTURE,
        limits::POINTS_PER_NODE,
        limits::POLICY_BYTES,
        limits::PROBES_PAGE,
        limits::PROBES_PER_FABRIC,
        limits::PROBES_PER_NODE,
        limits::PROBES_PER_SECOND,
        limits::PROBE_ATTEMPTS,
        limits::PROBE_FOUND,
        limits::PROBE_KEPT_BYTES,
        limits::PROBE_PLACES,
        limits::PROBE_REPORTS,
        limits::PROBE_REPORTS_BYTES,
        limits::PROBE_REPORTS_SHOWN,
        limits::PROBE_REPORT_BYTES,
        limits::PROBE_RUNS,
        limits::PROBE_RUNS_SHOWN,
        limits::PROBE_SERIES,
        limits::PROBE_TARGETS,
        limits::RECORDS_PAGE,
        limits::REFUSED_BATCHES,
        limits::REQUEST_BYTES,
        limits::REQUEST_ID_BYTES,
        limits::SPOOLED_POINTS,
        limits::START_AHEAD_NANOS,
        limits::STREAMS_PER_CONNECTION,
        limits::TIME_SLACK_NANOS,
        limits::TRANSLATIONS,
        wire::BATCH_ROWS,
        wire::COLUMNS_BYTES,
        wire::PROBE_CA_BYTES,
        wire::PROBE_CELL_BYTES,
        wire::PROBE_COLUMNS,
        wire::PROBE_GATEWAYS,
        wire::PROBE_MTU_STEPS,
        wire::PROBE_OWN_SERVERS,
        wire::PROBE_PAYLOAD_BYTES,
        wire::PROBE_SEARCH,
        wire::PROBE_SERVERS,
        wire::PROBE_SIZES,
        wire::PROBE_URL_BYTES,
        wire::RAW_BYTES,
        wire::THROUGHPUT_BYTES,
        wire::THROUGHPUT_SECONDS,
        wire::THROUGHPUT_SENDERS,
        wire::THROUGHPUT_UDP_RATE,
    ]
}

/// These, and what is told of the others.
fn known() -> BTreeMap<&'static str, String> {
    let mut known = numbers();
    known.insert("FLOW_ROWS", lastseen_correlate::FLOW_ROWS.to_string());
    known.insert("LOST_LIMIT", lastseen_correlate::LOST_LIMIT.to_string());
    known.insert("AUDIT_INTERVAL", limits::AUDIT_INTERVAL.as_secs().to_string());
    known.insert("CONNECTION_IDLE", limits::CONNECTION_IDLE.as_secs().to_string());
    known.insert("SILENCE", limits::SILENCE.as_secs().to_string());
    known.insert("SNAP_LENGTH", limits::SNAP_LENGTH.start().to_string());
    known.insert("PROBE_COUNT", wire::PROBE_COUNT.end().to_string());
    known.insert("PROBE_NEIGHBORS", wire::PROBE_NEIGHBORS.end().to_string());
    known.insert("THROUGHPUT_NANOS", wire::THROUGHPUT_NANOS.start().to_string());
    known.insert("THROUGHPUT_RATE", wire::THROUGHPUT_RATE.end().to_string());
    known.insert("PROBE_HOPS", wire::PROBE_HOPS.end().to_string());
    known.insert("PROBE_PACKETS", wire::PROBE_PACKETS.end().to_string());
    known.insert("PROBE_MTU", wire::PROBE_MTU.start().to_string());
    known.insert("PROBE_EVERY_NANOS", wire::PROBE_EVERY_NANOS.start().to_string());
    known.insert("PROBE_INTERVAL_NANOS", wire::PROBE_INTERVAL_NANOS.start().to_string());
    known.insert("PROBE_SIZE", wire::PROBE_SIZE.start().to_string());
    known.insert("PROBE_TIMEOUT_NANOS", wire::PROBE_TIMEOUT_NANOS.start().to_string());
    known.insert("TOPOLOGY_INTERVAL", limits::TOPOLOGY_INTERVAL.as_secs().to_string());
    known
}

#[test]
fn every_value_in_the_table_is_that_of_the_programs() {
    let known = known();
    for Row { constant, value, .. } in rows() {
        if let Some((path, text)) = constant.trim_matches('`').split_once(": ") {
            assert!(read(path).contains(text), "{path} does not hold {text}");
        } else {
            let expected =
                known.get(constant.as_str()).unwrap_or_else(|| panic!("{constant} is not known here"));
            assert_eq!(&number(&value), expected, "{constant}");
        }
    }
}

#[test]
fn every_limit_is_in_the_table() {
    let listed: BTreeSet<String> = rows().into_iter().map(|row| row.constant).collect();
    for path in ["coordinator/src/limits.rs", "proto/src/limits.rs"] {
        for line in read(path).lines() {
            let Some((name, _)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(':'))
            else {
                continue;
            };
            assert!(
                listed.contains(name) || OWN_PACE.contains(&name),
                "{path}: {name} is not in docs/LIMITS.md"
            );
        }
    }
}

#[test]
fn every_test_in_the_table_exists() {
    for Row { constant, test, .. } in rows().into_iter().filter(|row| row.test != "–") {
        let (path, name) = test.split_once("` ").unwrap_or_else(|| panic!("{constant}: {test}"));
        let path = path.trim_start_matches('`');
        assert!(read(path).contains(&format!("fn {name}(")), "{constant}: {path} has no test {name}");
    }
}
