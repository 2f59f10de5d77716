//! Translations that the node's connection tracking makes while a capture runs: what the coordinator needs to name both
//! sides, and the filter to match packets on both.
//!
//! Connections that exist are listed once, new ones come as `ctnetlink` events, which the kernel queues before the first
//! packet of a connection leaves the node. So events that are read after a packet tell of its connection.

pub(crate) mod entry;
mod message;
mod socket;
mod translated;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use lastseen_packet::observation::FlowKey;
use lastseen_proto::limits::TRANSLATIONS;

use self::socket::Events;
pub use self::translated::Translated;

/// Translations known of one capture; beyond that they are counted.
const KNOWN: usize = 65_536;

/// A translated connection: the tuple of its first packet as it came, and that of the answers as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Translation {
    /// `CTA_TUPLE_ORIG`.
    pub original: FlowKey,
    /// `CTA_TUPLE_REPLY`.
    pub reply: FlowKey,
}

/// What a node translated, for the coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The newest.
    pub translations: Vec<Translation>,
    /// How many there were beside them.
    pub omitted: u64,
}

/// Follows the connection tracking of the agent's network namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracker(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    events: Events,
    table: Table,
}

/// Each translation once, in the order in which they were told.
#[derive(Debug, Default)]
struct Table {
    known: Vec<Translation>,
    seen: HashSet<Translation>,
    omitted: u64,
}

impl Tracker {
    /// Listens for new connections, then lists those there are.
    pub fn open() -> io::Result<Self> {
        let events = Events::open()?;
        let mut table = Table::default();
        socket::list(&mut |translation| table.add(translation))?;
        Ok(Self(Arc::new(Mutex::new(State { events, table }))))
    }

    /// Reads what the kernel has told, and returns what became known after the first `known` translations.
    pub fn since(&self, known: usize) -> Vec<Translation> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { events, table } = &mut *state;
        events.read(&mut |translation| table.add(translation));
        table.known.get(known..).unwrap_or_default().to_vec()
    }

    /// Everything known at the end of a capture, and what went wrong on the way.
    pub fn told(&self) -> (Told, Option<String>) {
        let all = self.since(0);
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = all.len().saturating_sub(TRANSLATIONS);
        let told =
            Told { translations: all[excess..].to_vec(), omitted: state.table.omitted + excess as u64 };
        (told, state.events.trouble())
    }
}

impl Table {
    fn add(&mut self, translation: Translation) {
        if self.seen.contains(&translation) {
            return;
        }
        if self.known.len() == KNOWN {
            self.omitted += 1;
            return;
        }
        self.seen.insert(translation);
        self.known.push(translation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_each_translation_once_and_counts_what_is_too_much() {
        let mut table = Table::default();
        let translation = |number: usize| Translation {
            original: FlowKey { source: (number as u128).to_be_bytes().into(), ..FlowKey::UNSPECIFIED },
            reply: FlowKey::UNSPECIFIED,
        };
        for number in (0..KNOWN + 3).chain(0..3) {
            table.add(translation(number));
        }
        assert_eq!((table.known.len(), table.omitted), (KNOWN, 3));
    }
}
