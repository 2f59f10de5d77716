//! What a note tells to do about points that did not see all: with the options of a capture, or with the tool that wrote
//! the files.

use crate::input::Job;

/// About packets that a point dropped, and where that happened if it is known.
pub(crate) fn dropped(job: &Job, is_ring: bool) -> &'static str {
    match (job.from_files, is_ring) {
        (true, _) => "; capture again with a larger buffer (tcpdump -B) or a narrower filter",
        (false, true) => " (ring full); narrow the filter or name fewer interfaces",
        (false, false) => " (queue full); narrow the filter or name fewer interfaces",
    }
}

/// About packets of which too little was captured, and what else they may be.
pub(crate) fn cut(job: &Job) -> &'static str {
    if job.from_files {
        " or malformed; capture again with a larger snap length (tcpdump -s 0)"
    } else if looks_into_datagrams(&job.filter) {
        ", malformed or in super-frames; give a larger --snaplen or drop the payload term from the filter"
    } else {
        " or malformed; give a larger --snaplen"
    }
}

/// About interfaces that were not captured.
pub(crate) fn uncaptured(job: &Job) -> &'static str {
    if job.from_files {
        "give files of those interfaces too"
    } else {
        "name those interfaces with --interfaces"
    }
}

/// True for a filter that may ask for bytes behind a datagram's header, as `udp[8] = 1` does: a super-frame holds many
/// datagrams and no one answer.
fn looks_into_datagrams(filter: &str) -> bool {
    let words: String = filter.split_whitespace().collect();
    ["udp[", "icmp[", "icmp6["].iter().any(|term| words.contains(term))
}
