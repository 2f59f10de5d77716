//! What of the coordinator its conversions name, without what it is made of: the compiler says when one of them differs.

use lastseen_packet::observation::{Columns, FlowKey, Observation};
use lastseen_proto::batch::Encoder;
use lastseen_proto::v1;

use crate::model::{Capture, ClockFix, IdentityKey, Part, SECOND, Spec, State, Window};

pub mod error {
    #[derive(Debug)]
    #[allow(dead_code, reason = "shown to people")]
    pub enum Error {
        Denied(String),
        Incompatible(String),
    }
}

pub mod jobs {
    use bytes::Bytes;

    use crate::model::{PointStatus, State};

    #[allow(dead_code, reason = "jobs look at all of it")]
    pub struct Status {
        pub incarnation: u64,
        pub state: State,
        pub reason: String,
        pub points: Vec<PointStatus>,
        pub coverage: Vec<String>,
        pub translations: Option<Bytes>,
    }

    #[allow(dead_code, reason = "jobs look at all of it")]
    pub struct Left {
        pub incarnation: u64,
        pub status: PointStatus,
    }
}

/// A capture of one node whose window is the first ten seconds of 1970 by every clock.
pub fn running() -> Capture {
    let clock = ClockFix {
        at_nanos: 0,
        coordinator_minus_monotonic_nanos: 0,
        realtime_minus_monotonic_nanos: 0,
        error_nanos: 1,
        round_trip_nanos: 2,
    };
    Capture {
        id: "c-1".into(),
        spec: Spec {
            name: String::new(),
            labels: Default::default(),
            all_nodes: false,
            nodes: vec![super::NODE.into()],
            filter: String::new(),
            interfaces: Vec::new(),
            duration_nanos: 10 * SECOND,
            max_packets: None,
            max_bytes: None,
            snap_length: 192,
            start_at_nanos: None,
            sampling_interval: 1,
            traceparent: None,
        },
        state: State::Running,
        reason: String::new(),
        created_at_nanos: 0,
        created_by: String::new(),
        window: Some(Window { start_nanos: 0, end_nanos: 10 * SECOND }),
        identity_key: IdentityKey([7; 16]),
        parts: vec![Part { clock_start: Some(clock), ..Part::new(super::NODE) }],
    }
}

/// A good batch of it.
pub fn batch(point: v1::ObservationPoint) -> v1::ObservationBatch {
    let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED], ..Columns::default() };
    columns.push(&Observation { time_nanos: 1, ..Observation::default() });
    v1::ObservationBatch {
        key: Some(v1::BatchKey { capture_id: "c-1".into(), point: Some(point), incarnation: 1, sequence: 0 }),
        slice_end_nanos: SECOND,
        rows: 1,
        columns: Encoder::new().unwrap().encode(&columns).unwrap().into(),
        ..Default::default()
    }
}
