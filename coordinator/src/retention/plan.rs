//! Which captures go.

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Captures that ended longer ago go.
    pub(super) age_nanos: i64,
    /// While there are more bytes of observations, the capture goes that ended first.
    pub(super) bytes: Option<u64>,
}

/// Why a capture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is too old.
    Age,
    /// There are too many bytes.
    Bytes,
}

impl Reason {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Age, Self::Bytes];

    /// For metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Bytes => "bytes",
        }
    }
}

/// A capture.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: String,
    /// None while it has not ended.
    pub(super) ended_at_nanos: Option<i64>,
    /// Bytes of its observations.
    pub(super) bytes: u64,
}

/// Those that go, of captures that are in the order of their ends.
pub(super) fn due<'a>(held: &'a [Held], policy: &Policy, now_nanos: i64) -> Vec<(&'a str, Reason)> {
    let oldest_nanos = now_nanos.saturating_sub(policy.age_nanos);
    let mut bytes: u64 = held.iter().map(|held| held.bytes).sum();
    let mut due = Vec::new();
    for capture in held {
        let Some(ended_at_nanos) = capture.ended_at_nanos else { continue };
        let reason = if ended_at_nanos < oldest_nanos {
            Reason::Age
        } else if capture.bytes > 0 && policy.bytes.is_some_and(|most| bytes > most) {
            Reason::Bytes
        } else {
            continue;
        };
        bytes -= capture.bytes;
        due.push((capture.id.as_str(), reason));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(captures: &[(&str, Option<i64>, u64)]) -> Vec<Held> {
        let one = |&(id, ended_at_nanos, bytes): &(&str, _, _)| Held { id: id.into(), ended_at_nanos, bytes };
        captures.iter().map(one).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_what_runs_never() {
        let held =
            held(&[("old", Some(10), 5), ("runs", None, 50), ("empty", Some(85), 0), ("new", Some(90), 5)]);
        let due = |age_nanos, bytes| due(&held, &Policy { age_nanos, bytes }, 100);
        assert_eq!(due(90, None), []);
        assert_eq!(due(89, None), [("old", Reason::Age)]);
        assert_eq!(due(1, None), ["old", "empty", "new"].map(|id| (id, Reason::Age)));
        assert_eq!(due(100, Some(60)), []);
        assert_eq!(due(100, Some(59)), [("old", Reason::Bytes)]);
        assert_eq!(due(100, Some(54)), [("old", Reason::Bytes), ("new", Reason::Bytes)]);
        assert_eq!(due(89, Some(55)), [("old", Reason::Age)], "what age takes makes room");
        assert_eq!(due(i64::MAX, Some(0)).len(), 2, "what takes no room makes none");
    }
}
