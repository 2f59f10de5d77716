//! What a receiver makes of the datagrams that come: it answers the sender alone, and with no more than it got.

use std::net::SocketAddr;

use tokio::time::Instant;

use super::gate::Gate;
use super::message::{BYTES, Key, Message, Word};
use super::tally::Tally;
use super::{Came, Times};

/// The state of one run.
pub(super) struct Hearing<'a> {
    key: Key,
    pub(super) gate: Gate<'a>,
    pub(super) tally: Tally,
    /// Who called first with the token. Nobody else is heard from then on.
    pub(super) caller: Option<SocketAddr>,
    /// Datagrams that it says it sent, and when it said so.
    end: Option<(u64, Instant)>,
}

impl<'a> Hearing<'a> {
    /// Of at most so many datagrams.
    pub(super) fn new(key: Key, gate: Gate<'a>, most: u64) -> Self {
        Self { key, gate, tally: Tally::new(most), caller: None, end: None }
    }

    /// Takes a datagram that came at `nanos` on our clock. The answer to it, if it deserves one.
    pub(super) fn take(&mut self, datagram: &[u8], from: SocketAddr, nanos: i64) -> Option<[u8; BYTES]> {
        let message = self.key.read(datagram).filter(|_| self.gate.is_open(from.ip()));
        let is_caller = self.caller.is_none_or(|caller| caller == from);
        let Some(message) = message.filter(|_| is_caller) else {
            self.gate.refuse();
            return None;
        };
        match message.word {
            Word::Call => {
                self.caller = Some(from);
                Some(self.key.write(Message { word: Word::Ready, ..message }))
            }
            Word::Data if self.caller.is_some() => {
                if !self.tally.arrived(message.number, message.stamp, nanos, datagram.len()) {
                    self.gate.refuse();
                }
                None
            }
            Word::End if self.caller.is_some() => {
                self.end.get_or_insert((message.number, Instant::now()));
                Some(self.key.write(Message { word: Word::Done, number: self.tally.distinct, ..message }))
            }
            Word::Data | Word::End | Word::Ready | Word::Done => {
                self.gate.refuse();
                None
            }
        }
    }

    /// Nothing more is waited for then.
    pub(super) fn deadline(&self, times: &Times) -> Instant {
        match (self.caller, self.end) {
            (None, _) => times.heard(),
            (_, Some((_, at))) => times.over().min(at + times.patience),
            (_, None) => times.over(),
        }
    }

    /// How far the sender came.
    pub(super) fn came(&self) -> Came {
        match (self.caller, self.end) {
            (None, _) => Came::Nothing,
            (_, None) => Came::Calls,
            (_, Some((count, _))) => Came::End(count),
        }
    }

    /// The sender has said how much it sent.
    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Everything that was sent has come.
    pub(super) fn is_whole(&self) -> bool {
        self.end.is_some() && self.lost() == 0
    }

    /// Of what was sent, as far as the sender could say.
    pub(super) fn lost(&self) -> u64 {
        self.tally.lost(self.end.map(|(sent, _)| sent))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SENDER: &str = "10.0.0.1:4000";

    fn key() -> Key {
        Key::new([7; 16], 0)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn said(word: Word, number: u64) -> [u8; BYTES] {
        key().write(Message { word, number, stamp: 0 })
    }

    #[test]
    fn the_sender_is_heard_and_answered_with_no_more_than_it_said() {
        let senders: [IpAddr; 1] = ["10.0.0.1".parse().unwrap()];
        let mut hearing = Hearing::new(key(), Gate::new(&senders), 10);
        let ready = hearing.take(&said(Word::Call, 4), at(SENDER), 0).unwrap();
        assert_eq!(key().read(&ready), Some(Message { word: Word::Ready, number: 4, stamp: 0 }));
        for number in [0, 2] {
            assert_eq!(hearing.take(&said(Word::Data, number), at(SENDER), 0), None);
        }
        assert!(!hearing.is_whole() && !hearing.is_ended());
        let done = hearing.take(&said(Word::End, 3), at(SENDER), 0).unwrap();
        assert_eq!(key().read(&done).unwrap().word, Word::Done);
        assert_eq!((hearing.lost(), hearing.is_whole(), hearing.gate.strangers), (1, false, 0));
        hearing.take(&said(Word::Data, 1), at(SENDER), 0);
        assert!(hearing.is_whole(), "a late one counts");
    }

    #[test]
    fn hostile_first_bytes_are_ignored_and_counted() {
        let senders: [IpAddr; 1] = ["10.0.0.1".parse().unwrap()];
        let mut hearing = Hearing::new(key(), Gate::new(&senders), 10);
        let call = said(Word::Call, 0);
        let (mut wrong, mut unknown) = (call, call);
        wrong[0] ^= 1;
        unknown[16] = 99;
        let other_run = Key::new([7; 16], 1).write(Message { word: Word::Call, number: 0, stamp: 0 });
        let hostile: [&[u8]; 9] = [
            &[],
            &[0; 2_048],
            &wrong,
            &unknown,
            &call[..BYTES - 1],
            &other_run,
            // Before any call.
            &said(Word::Data, 0),
            &said(Word::End, 0),
            &said(Word::Ready, 0),
        ];
        for bytes in hostile {
            assert_eq!(hearing.take(bytes, at(SENDER), 0), None, "{bytes:?}");
        }
        assert_eq!(hearing.take(&call, at("10.0.0.2:4000"), 0), None, "of another address");
        assert_eq!((hearing.gate.strangers, hearing.caller), (10, None));
        hearing.take(&call, at(SENDER), 0).unwrap();
        assert_eq!(hearing.take(&call, at("10.0.0.1:4001"), 0), None, "of another port, once it has called");
        assert_eq!(hearing.take(&said(Word::Data, 10), at(SENDER), 0), None, "a number that cannot be");
        assert_eq!((hearing.gate.strangers, hearing.tally.distinct), (12, 0));
        let mut open = Hearing::new(key(), Gate::new(&[]), 10);
        assert!(
            open.take(&call, at("[fd00::9]:1"), 0).is_some(),
            "where the address is not known, the token tells"
        );
    }
}
