//! What coordinators that share a database tell each other, in rows. Contents are text that only coordinators read.

use bytes::Bytes;

/// What changed, so that nobody has to wait for the next look. Nothing rests on it: it may get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// A capture began, went on or ended.
    Captures,
    /// An agent came or went.
    Links,
    /// There is something for agents of others.
    Commands,
    /// There is something for captures that others lead.
    Mail,
    /// Batches were committed.
    Batches,
    /// A probe began, went on or ended.
    Probes,
}

impl Word {
    const ALL: [Self; 6] =
        [Self::Captures, Self::Links, Self::Commands, Self::Mail, Self::Batches, Self::Probes];

    /// Every one, for who may have missed some.
    pub fn all() -> std::collections::BTreeSet<Self> {
        Self::ALL.into_iter().collect()
    }

    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Captures => "captures",
            Self::Links => "links",
            Self::Commands => "commands",
            Self::Mail => "mail",
            Self::Batches => "batches",
            Self::Probes => "probes",
        }
    }

    /// As it was sent.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == name)
    }
}

/// An agent that a coordinator has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// Node name.
    pub node: String,
    /// Who has it.
    pub coordinator: i64,
    /// Number of its control stream, unlike any other's.
    pub session: u64,
    /// When that began, in the database's time.
    pub connected_at_nanos: i64,
    /// The rest.
    pub detail: String,
}

/// A command for an agent of another coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRow {
    /// The control stream that it is for.
    pub session: u64,
    /// Node name.
    pub node: String,
    /// What.
    pub command: String,
}

/// What happened to a capture where it is not led. One with the same first four fields takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRow {
    /// Capture id.
    pub capture: String,
    /// Node name, empty if it is not about one.
    pub node: String,
    /// Which kind of event.
    pub kind: String,
    /// Tells apart what does not replace each other.
    pub subject: String,
    /// Begin of the control stream that it came on; what came on an older one replaces nothing.
    pub connected_at_nanos: i64,
    /// What.
    pub content: String,
    /// What is too large for text.
    pub attachment: Option<Bytes>,
}

/// What became of the leases that were to be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Captures that are led for another while.
    pub kept: Vec<String>,
    /// Captures that somebody else has taken over, or that are gone.
    pub lost: Vec<String>,
    /// Some are being written, and are to be renewed in a moment.
    pub is_partial: bool,
    /// The others knew nothing of this process.
    pub is_new: bool,
}
