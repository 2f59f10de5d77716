//! Who may talk to a receiver.

use std::net::IpAddr;

/// Lets the sender in, and counts the others.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    senders: &'a [IpAddr],
    /// Who was turned away, and what made no sense.
    pub(super) strangers: u64,
}

impl<'a> Gate<'a> {
    /// For these; for anybody, if there are none: then the token alone tells.
    pub(super) fn new(senders: &'a [IpAddr]) -> Self {
        Self { senders, strangers: 0 }
    }

    /// Whether something may come from there.
    pub(super) fn is_open(&self, from: IpAddr) -> bool {
        self.senders.is_empty() || self.senders.contains(&from.to_canonical())
    }

    /// One is turned away.
    pub(super) fn refuse(&mut self) {
        self.strangers = self.strangers.saturating_add(1);
    }
}
