//! What a record of the audit says.

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// About to be done; another record tells its end.
    Begun = 1,
    /// Done.
    Done = 2,
    /// Not allowed.
    Refused = 3,
    /// Allowed, but it did not succeed.
    Failed = 4,
}

impl Outcome {
    /// From the store.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Begun, Self::Done, Self::Refused, Self::Failed].into_iter().find(|it| *it as i64 == number)
    }
}

/// Who did what, when, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, Unix nanoseconds on the coordinator's clock.
    pub at_nanos: i64,
    /// Identity.
    pub who: String,
    /// Address it came from.
    pub peer: String,
    /// A command, or the name of a call.
    pub action: String,
    /// What it was done to, mostly a capture; may be empty.
    pub subject: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was asked for, or why not.
    pub detail: String,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those with a smaller number.
    pub before: Option<u64>,
    /// Only those from then on, Unix nanoseconds.
    pub since_nanos: Option<i64>,
    /// Only what one of these identities did; empty: everybody. At most [`NAMES`].
    pub who: Vec<String>,
}

/// Identities that one query may name.
pub const NAMES: usize = 4;
