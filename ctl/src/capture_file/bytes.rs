//! The bytes of a file from the record at hand on, and why no whole record may follow.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};

/// Largest record that is read; libpcap's largest snap length is 256 KiB.
const LARGEST_RECORD: usize = 2 << 20;

/// A source, read as far as a record needs.
pub(super) struct Bytes {
    source: Box<dyn Read>,
    held: Vec<u8>,
    /// What of `held` is read and not yet parsed.
    from: usize,
    to: usize,
    /// Place of the record at hand.
    offset: u64,
    is_unpacked: bool,
}

/// Why bytes are no record.
pub(super) enum Refusal {
    /// More are needed: the record says that it is of `length`. Contradictory if its other fields say less.
    Incomplete { length: usize, is_contradictory: bool },
    /// It contradicts itself.
    Invalid(String),
}

/// Why reading ends here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The last record is not whole.
    Ended,
    /// No record can begin there, though bytes follow.
    Damaged { place: String, reason: String },
    /// The source cannot be read.
    Failed(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the file ends in the middle of it (copied while being written?)"),
            Self::Damaged { place, reason } => {
                write!(f, "the file is damaged at {place}: {reason}; what follows cannot be found")
            }
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Fault {
    /// What is wrong with a file's first record.
    pub(super) fn at_begin(self) -> String {
        match self {
            Self::Ended => "it ends in its header".to_owned(),
            Self::Damaged { reason, .. } | Self::Failed(reason) => reason,
        }
    }
}

impl Bytes {
    pub(super) fn new(source: Box<dyn Read>, is_unpacked: bool) -> Self {
        Self { source, held: vec![0; LARGEST_RECORD], from: 0, to: 0, offset: 0, is_unpacked }
    }

    /// The next record, as `parse` makes it of the bytes that begin with it, with its length. Absent at the end.
    pub(super) fn next<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<(T, usize), Refusal>,
    ) -> Option<Result<T, Fault>> {
        loop {
            let held = &self.held[self.from..self.to];
            let mut at_end = None;
            if !held.is_empty() {
                match parse(held) {
                    Ok((record, length)) => {
                        self.from += length;
                        self.offset += length as u64;
                        return Some(Ok(record));
                    }
                    Err(Refusal::Invalid(reason)) => return Some(Err(self.damaged(reason))),
                    Err(Refusal::Incomplete { length, .. }) if length > LARGEST_RECORD => {
                        return Some(Err(
                            self.damaged(format!("a record of {length} bytes, 2 MiB at most is read"))
                        ));
                    }
                    Err(Refusal::Incomplete { length, is_contradictory: true }) => {
                        let reason = format!("a record of {length} bytes, {} are left", held.len());
                        at_end = Some(self.damaged(reason));
                    }
                    Err(Refusal::Incomplete { .. }) => at_end = Some(Fault::Ended),
                }
            }
            match self.fill() {
                Ok(0) => return at_end.map(Err),
                Ok(_) => {}
                Err(error) => return Some(Err(unread(&error))),
            }
        }
    }

    fn damaged(&self, reason: String) -> Fault {
        let of = if self.is_unpacked { " of what it unpacks to" } else { "" };
        Fault::Damaged { place: format!("byte {}{of}", self.offset), reason }
    }

    /// Reads on behind what is held. Returns how many bytes.
    fn fill(&mut self) -> io::Result<usize> {
        self.held.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        loop {
            match self.source.read(&mut self.held[self.to..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.to += count;
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A packed source may end before its end, too.
fn unread(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Ended,
        _ => Fault::Failed(error.to_string()),
    }
}

/// The innermost message: the outer ones only repeat that something is wrong.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
