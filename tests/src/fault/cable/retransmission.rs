//! Tells retransmissions: bytes of a connection that have passed before.

use std::collections::HashMap;

use super::tunnelled::Data;

/// How far each connection has come.
#[derive(Debug, Default)]
pub(super) struct Progress(HashMap<[u8; 12], u32>);

impl Progress {
    /// Takes a segment in, and says whether its first byte has passed before.
    pub(super) fn is_repeated(&mut self, data: Data) -> bool {
        let next = data.seq.wrapping_add(data.length);
        let reached = self.0.entry(data.flow).or_insert(data.seq);
        let is_repeated = is_before(data.seq, *reached);
        if is_before(*reached, next) {
            *reached = next;
        }
        is_repeated
    }
}

/// In the circle of sequence numbers.
fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_have_passed_are_repeated_across_the_end_of_the_circle() {
        let mut progress = Progress::default();
        let near_end = u32::MAX - 9;
        let see = |progress: &mut Progress, flow, offset: u32, length| {
            progress.is_repeated(Data { flow: [flow; 12], seq: near_end.wrapping_add(offset), length })
        };
        assert!(!see(&mut progress, 1, 0, 100) && !see(&mut progress, 1, 100, 100));
        assert!(see(&mut progress, 1, 100, 100) && see(&mut progress, 1, 0, 300));
        assert!(!see(&mut progress, 1, 300, 1) && !see(&mut progress, 2, 100, 100));
    }
}
