//! From which size on packets vanish.

use std::collections::BTreeMap;

use lastseen_proto::v1;

/// Packets of each size of a sweep.
pub(super) const OF_EACH: u32 = 3;
/// Sizes every path takes, or should.
const SMALL: [u32; 5] = [100, 576, 1_000, 1_200, 1_280];
/// Where MTUs of overlays and what they are carried in lie, and how exactly one is found.
const USUAL: std::ops::RangeInclusive<u32> = 1_300..=1_500;
const STEP: usize = 4;

/// The sizes of a sweep, with their IP header.
pub(super) fn sweep() -> Vec<u32> {
    SMALL.into_iter().chain(USUAL.step_by(STEP)).collect()
}

/// By size: what was sent, what of it was lost on the way there (by its length, IPv4 and IPv6 alike), what was answered.
pub(super) fn by_size<'a>(
    result: &v1::ProbeResult,
    lost: impl Iterator<Item = &'a v1::LostPacket>,
) -> Vec<v1::TracedSize> {
    let mut sizes: BTreeMap<u32, v1::TracedSize> = BTreeMap::new();
    for attempt in &result.attempts {
        let of_size = sizes.entry(attempt.size).or_default();
        of_size.size = attempt.size;
        match attempt.outcome() {
            v1::ProbeOutcome::ProbeNotSent => of_size.not_sent += 1,
            v1::ProbeOutcome::ProbeAnswered | v1::ProbeOutcome::ProbeRefused => {
                of_size.sent += 1;
                of_size.answered += 1;
            }
            _ => of_size.sent += 1,
        }
    }
    for packet in lost {
        if let Some(of_size) = sizes.get_mut(&packet.ip_length) {
            of_size.lost += 1;
        }
    }
    // What was answered was not lost, whatever its last points say.
    for of_size in sizes.values_mut() {
        of_size.lost = of_size.lost.min(of_size.sent - of_size.answered);
    }
    if sizes.len() > 1 { sizes.into_values().collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_fits_a_probe() {
        let sizes = sweep();
        assert!(sizes.len() <= lastseen_proto::limits::PROBE_SIZES && sizes.is_sorted());
        assert_eq!((sizes[0], sizes.last()), (100, Some(&1_500)));
    }

    #[test]
    fn packets_are_counted_by_size() {
        let attempt = |size, outcome: v1::ProbeOutcome| v1::ProbeAttempt {
            size,
            outcome: outcome.into(),
            ..Default::default()
        };
        let attempts = vec![
            attempt(100, v1::ProbeOutcome::ProbeAnswered),
            attempt(1_500, v1::ProbeOutcome::ProbeSilent),
            attempt(1_504, v1::ProbeOutcome::ProbeNotSent),
        ];
        let result = v1::ProbeResult { attempts, ..Default::default() };
        let lost = [v1::LostPacket { ip_length: 1_500, ..Default::default() }, v1::LostPacket::default()];
        let told: Vec<_> = by_size(&result, lost.iter())
            .iter()
            .map(|size| (size.size, size.sent, size.not_sent, size.lost, size.answered))
            .collect();
        assert_eq!(told, [(100, 1, 0, 0, 1), (1_500, 1, 0, 1, 0), (1_504, 0, 1, 0, 0)]);
    }
}
