//! Rows of a table as they come: as many as a report holds are kept, the others are counted.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use lastseen_proto::limits::{PROBE_CELL_BYTES, PROBE_REPORT_BYTES};
use nix::net::if_::if_indextoname;

use crate::netlink::dump::{End, Request, dump};

/// What a report holds beside rows: columns, notes, and what the coordinator adds.
const ROOM_BYTES: usize = 16 << 10;
/// Times that a table is read which changes meanwhile.
const READS: usize = 3;

/// A table under construction.
#[derive(Debug)]
pub(super) struct Listing {
    /// What stands in the cells.
    pub(super) columns: &'static [&'static str],
    /// Those that are kept.
    pub(super) rows: Vec<Vec<String>>,
    /// How many there were.
    pub(super) total: u64,
    /// What else is to be known.
    pub(super) notes: Vec<String>,
    /// Until then everything has to be read.
    pub(super) deadline: Instant,
    /// Bytes that rows may still take in a report.
    room: usize,
    devices: BTreeMap<u32, String>,
}

/// A point to go back to.
struct Mark {
    rows: usize,
    total: u64,
    room: usize,
}

impl Listing {
    pub(super) fn new(columns: &'static [&'static str], deadline: Instant) -> Self {
        let room = PROBE_REPORT_BYTES - ROOM_BYTES;
        let devices = BTreeMap::new();
        Self { columns, rows: Vec::new(), total: 0, notes: Vec::new(), deadline, room, devices }
    }

    /// Adds a row, which is not even made once a row had no room.
    pub(super) fn row<const N: usize>(&mut self, cells: impl FnOnce(&mut Self) -> [String; N]) {
        self.total += 1;
        if self.room == 0 {
            return;
        }
        let cells = cells(self).map(cell);
        debug_assert_eq!(N, self.columns.len());
        // Tag and length of each cell, and of the row.
        let bytes: usize = 6 + cells.iter().map(|cell| cell.len() + 2).sum::<usize>();
        if bytes > self.room {
            self.room = 0;
            return;
        }
        self.room -= bytes;
        self.rows.push(cells.into());
    }

    /// Tells something beside the rows.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether there is no more time; a note says so then.
    pub(super) fn is_late(&mut self, what: &str) -> bool {
        let is_late = Instant::now() >= self.deadline;
        if is_late {
            self.note(format!("{what}: there was no time to read all of it; give a longer --timeout"));
        }
        is_late
    }

    /// Reads everything of one kind, again if it changes meanwhile. `each` gets type and body of each message and says
    /// whether it could read it.
    pub(super) fn dump(
        &mut self,
        what: &str,
        request: Request<'_>,
        mut each: impl FnMut(&mut Self, u16, &[u8]) -> Option<()>,
    ) -> io::Result<()> {
        self.settle(what, |listing| {
            let (mut unreadable, deadline) = (0, listing.deadline);
            let end = dump(request, deadline, |kind, body| {
                unreadable += u64::from(each(listing, kind, body).is_none());
            })?;
            Ok((end, unreadable))
        })
    }

    /// Reads until nothing changed meanwhile, or it was tried often enough. `read` says how it ended, and how many entries
    /// it could not read.
    fn settle(
        &mut self,
        what: &str,
        mut read: impl FnMut(&mut Self) -> io::Result<(End, u64)>,
    ) -> io::Result<()> {
        let mark = Mark { rows: self.rows.len(), total: self.total, room: self.room };
        for time in 1..=READS {
            let (end, unreadable) = read(self)?;
            match end {
                End::Changed if time < READS => {
                    self.rewind(&mark);
                    continue;
                }
                End::Changed => self.note(format!(
                    "{what}: changed each of the {READS} times it was read; rows may be missing or come twice"
                )),
                End::Late => {
                    self.note(format!(
                        "{what}: there was no time to read all of it; give a longer --timeout"
                    ));
                }
                End::Whole => {}
            }
            if unreadable > 0 {
                self.note(format!(
                    "{what}: {unreadable} entries are written in a way this agent does not know"
                ));
            }
            break;
        }
        Ok(())
    }

    fn rewind(&mut self, mark: &Mark) {
        self.rows.truncate(mark.rows);
        (self.total, self.room) = (mark.total, mark.room);
    }

    /// Name of an interface of this thread's namespace; empty for 0.
    pub(super) fn device(&mut self, index: u32) -> String {
        if index == 0 {
            return String::new();
        }
        let name = || if_indextoname(index).map(|name| name.to_string_lossy().into_owned());
        self.devices.entry(index).or_insert_with(|| name().unwrap_or_else(|_| format!("#{index}"))).clone()
    }
}

/// A cell as long as it may be.
fn cell(mut text: String) -> String {
    const MORE: &str = "…";
    if text.len() > PROBE_CELL_BYTES {
        text.truncate(text.floor_char_boundary(PROBE_CELL_BYTES - MORE.len()));
        text.push_str(MORE);
    }
    text
}

/// Text of what is there, empty for what is not.
pub(super) fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_it_is_read_is_read_again_and_told_in_the_end() {
        let mut listing = Listing::new(&["name"], Instant::now());
        let mut ends = vec![(End::Whole, 0), (End::Changed, 7)];
        listing
            .settle("routes", |listing| {
                listing.row(|_| [String::new()]);
                Ok(ends.pop().unwrap())
            })
            .unwrap();
        assert_eq!(
            (listing.total, listing.rows.len(), listing.notes.len()),
            (1, 1, 0),
            "only the last is kept"
        );
        let mut times = 0;
        listing
            .settle("routes", |listing| {
                times += 1;
                listing.row(|_| [String::new()]);
                Ok((End::Changed, 2))
            })
            .unwrap();
        assert_eq!((times, listing.total), (READS, 2));
        assert_eq!(
            listing.notes,
            [
                "routes: changed each of the 3 times it was read; rows may be missing or come twice",
                "routes: 2 entries are written in a way this agent does not know",
            ]
        );
    }

    #[test]
    fn rows_beyond_a_report_are_counted_and_long_cells_cut() {
        let mut listing = Listing::new(&["name", "value"], Instant::now());
        let long = "ä".repeat(PROBE_CELL_BYTES);
        for _ in 0..100_000 {
            listing.row(|_| [String::new(), long.clone()]);
        }
        listing.row(|_| -> [String; 2] { panic!("nobody wants it") });
        assert_eq!(listing.total, 100_001);
        let bytes: usize = listing.rows.iter().flatten().map(String::len).sum();
        assert!(bytes <= PROBE_REPORT_BYTES && bytes > PROBE_REPORT_BYTES / 2, "{bytes}");
        let cut = &listing.rows[0][1];
        assert!(cut.len() <= PROBE_CELL_BYTES && cut.ends_with("ä…"), "{cut}");
        assert!(listing.is_late("all"));
        assert_eq!(listing.notes, ["all: there was no time to read all of it; give a longer --timeout"]);
    }
}
