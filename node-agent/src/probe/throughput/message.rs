//! What the two ends say to each other: messages of 41 bytes, with which the datagrams of data begin too.

/// Bytes of a message.
pub(super) const BYTES: usize = TOKEN_BYTES + 1 + 8 + 8 + 8;
const TOKEN_BYTES: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The sender asks whether the receiver is there.
    Call = 1,
    /// The receiver is; number and stamp are those of the call.
    Ready = 2,
    /// A datagram of data.
    Data = 3,
    /// The sender has sent as many datagrams as the number says.
    End = 4,
    /// The receiver knows.
    Done = 5,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What it is.
    pub(super) word: Word,
    /// Which, or how many.
    pub(super) number: u64,
    /// When it was sent, nanoseconds on the sender's `CLOCK_MONOTONIC`.
    pub(super) stamp: i64,
}

/// What every message of a run begins with, and what no other does.
#[derive(Clone, Copy)]
pub(super) struct Key {
    token: [u8; TOKEN_BYTES],
    run: u64,
}

impl Key {
    /// Of this run of the probe with this token.
    pub(super) fn new(token: [u8; TOKEN_BYTES], run: u64) -> Self {
        Self { token, run }
    }

    /// The bytes of a message.
    pub(super) fn write(&self, message: Message) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (token, rest) = bytes.split_at_mut(TOKEN_BYTES);
        token.copy_from_slice(&self.token);
        rest[0] = message.word as u8;
        rest[1..9].copy_from_slice(&self.run.to_be_bytes());
        rest[9..17].copy_from_slice(&message.number.to_be_bytes());
        rest[17..].copy_from_slice(&message.stamp.to_be_bytes());
        bytes
    }

    /// The message that these bytes begin with; none: it is not of this run.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Message> {
        let (token, rest) = bytes.split_first_chunk::<TOKEN_BYTES>()?;
        let (word, rest) = rest.split_first()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let stamp = rest.first_chunk()?;
        let word = [Word::Call, Word::Ready, Word::Data, Word::End, Word::Done]
            .into_iter()
            .find(|known| *known as u8 == *word)?;
        let is_ours = *token == self.token && u64::from_be_bytes(*run) == self.run;
        let message =
            Message { word, number: u64::from_be_bytes(*number), stamp: i64::from_be_bytes(*stamp) };
        is_ours.then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_all_that_it_begins_with() {
        let key = Key::new([7; TOKEN_BYTES], 3);
        let message = Message { word: Word::Data, number: u64::MAX, stamp: -5 };
        let bytes = key.write(message);
        assert_eq!(key.read(&bytes), Some(message));
        assert_eq!(key.read(&[&bytes[..], b"and what follows"].concat()), Some(message));
        assert_eq!(key.read(&bytes[..BYTES - 1]), None, "cut");
        assert_eq!(key.read(&[]), None);
        assert_eq!(Key::new([7; TOKEN_BYTES], 4).read(&bytes), None, "of another run");
        for at in 0..=TOKEN_BYTES {
            let mut other = bytes;
            other[at] ^= 0x40;
            assert_eq!(key.read(&other), None, "another's, by byte {at}");
        }
    }
}
