//! What a set of segments is like: sizes, flags and times, counted in bounded memory. Merges in any order to the same
//! result.

use crate::evidence::sighting::Sighting;

/// Set beside the TCP flags of a segment without payload.
pub(crate) const EMPTY: u16 = 0x100;
/// Set beside the TCP flags of a datagram that some hop saw in fragments.
pub(crate) const FRAGMENTED: u16 = 0x200;

/// Below this length size buckets are [`FINE_BYTES`] wide, above a sixteenth of their power of two.
const FINE_TO: u16 = 2048;
const FINE_BYTES: u16 = 16;

/// Counts of segments. At most 1,024 marks, 208 sizes and 1,024 times; usually a few of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// By TCP flags with [`EMPTY`] and [`FRAGMENTED`], ascending.
    pub(crate) marks: Vec<(u16, u32)>,
    /// Ascending.
    pub(crate) sizes: Vec<Size>,
    /// By bin of the conversation's [`crate::pattern::Grain`].
    pub(crate) times: Vec<u32>,
}

/// Segments of about one length. The bounds are exact, so that a threshold between two buckets is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    bucket: u16,
    /// Inner IP length of the shortest.
    pub(crate) shortest: u16,
    /// Inner IP length of the longest.
    pub(crate) longest: u16,
    pub(crate) count: u32,
}

impl Profile {
    /// Counts a segment that was sent in the bin `time`.
    #[inline]
    pub(crate) fn add(&mut self, segment: &Sighting, time: u16) {
        let empty = if segment.payload_length() == 0 { EMPTY } else { 0 };
        let fragmented = if segment.is_datagram() { FRAGMENTED } else { 0 };
        self.mark(u16::from(segment.tcp_flags) | empty | fragmented, 1);
        self.size(Size {
            bucket: bucket(segment.ip_length),
            shortest: segment.ip_length,
            longest: segment.ip_length,
            count: 1,
        });
        self.time(time, 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.merge_traits(other);
        for (at, &count) in other.times.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.time(at as u16, count);
        }
    }

    /// Merges everything but the times, which conversations bin each in their own way.
    pub(crate) fn merge_traits(&mut self, other: &Self) {
        other.marks.iter().for_each(|&(mark, count)| self.mark(mark, count));
        other.sizes.iter().for_each(|&size| self.size(size));
    }

    /// Inner IP length of the longest; 0 for none.
    pub(crate) fn longest(&self) -> u16 {
        self.sizes.last().map_or(0, |size| size.longest)
    }

    pub(crate) fn count(&self) -> u64 {
        self.marks.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    #[inline]
    fn mark(&mut self, mark: u16, count: u32) {
        let at = self.marks.partition_point(|&(known, _)| known < mark);
        match self.marks.get_mut(at) {
            Some((known, counted)) if *known == mark => *counted = counted.saturating_add(count),
            _ => self.marks.insert(at, (mark, count)),
        }
    }

    #[inline]
    fn size(&mut self, size: Size) {
        let at = self.sizes.partition_point(|known| known.bucket < size.bucket);
        match self.sizes.get_mut(at) {
            Some(known) if known.bucket == size.bucket => {
                known.shortest = known.shortest.min(size.shortest);
                known.longest = known.longest.max(size.longest);
                known.count = known.count.saturating_add(size.count);
            }
            _ => self.sizes.insert(at, size),
        }
    }

    #[inline]
    pub(crate) fn time(&mut self, bin: u16, count: u32) {
        let bin = usize::from(bin);
        if bin >= self.times.len() {
            self.times.resize(bin + 1, 0);
        }
        self.times[bin] = self.times[bin].saturating_add(count);
    }
}

impl Size {
    pub(crate) fn bucket(&self) -> u16 {
        self.bucket
    }
}

#[inline]
fn bucket(length: u16) -> u16 {
    if length < FINE_TO {
        return length / FINE_BYTES;
    }
    let power = length.ilog2() as u16;
    let step = (length >> (power - 4)) & 15;
    FINE_TO / FINE_BYTES + (power - 11) * 16 + step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(ip_length: u16, tcp_flags: u8) -> Sighting {
        Sighting { ip_length, tcp_flags, header_length: 52, ..Sighting::default() }
    }

    #[test]
    fn longer_segments_never_fall_into_lower_buckets() {
        assert!((0..u16::MAX).all(|length| bucket(length) <= bucket(length + 1)));
        assert_eq!([bucket(2047), bucket(2048), bucket(u16::MAX)], [127, 128, 207]);
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let segments: Vec<_> = (0..500_u16).map(|n| segment(52 + n * 7 % 1449, (n % 3) as u8)).collect();
        let (mut whole, mut parts) = (Profile::default(), [Profile::default(), Profile::default()]);
        for (at, segment) in segments.iter().enumerate() {
            whole.add(segment, at as u16 % 200);
            parts[at % 2].add(segment, at as u16 % 200);
        }
        let [mut odd, even] = parts;
        odd.merge(&even);
        assert_eq!(odd, whole);
        assert_eq!(whole.count(), 500);
    }

    #[test]
    fn any_traffic_stays_within_some_kibibytes() {
        let mut profile = Profile::default();
        for length in 0..=u16::MAX {
            let fragmented = u64::from(length % 2);
            let any = Sighting { k0: fragmented, ..segment(length, (length >> 3) as u8) };
            profile.add(&any, length % 1024);
        }
        let bytes = size_of_val(&profile.marks[..])
            + size_of_val(&profile.sizes[..])
            + size_of_val(&profile.times[..]);
        assert!(bytes <= 16 << 10, "{bytes}");
    }
}
