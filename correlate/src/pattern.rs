//! What the lost have in common that the delivered have not.

use crate::losses::LegLoss;
use crate::report::Pattern;
use crate::text::{grouped, segments};

/// Fewer lost segments than this may share their size by chance.
const MIN_FOR_SIZE: u64 = 2;

/// What other protocols did on the same leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    /// Segments of other protocols that passed.
    pub(crate) passed: u64,
    /// Segments of other protocols that were lost.
    pub(crate) lost: u64,
}

/// True if every lost segment is longer than every one that passed.
pub(crate) fn is_size(loss: &LegLoss) -> bool {
    loss.missing.count >= MIN_FOR_SIZE && loss.passed > 0 && loss.missing.shortest > loss.longest_passed
}

/// The pattern of a loss, of segments of `protocol`. Lengths are those of the inner IP packet.
pub(crate) fn find(loss: &LegLoss, protocol: &str, others: Others) -> Pattern {
    let count = loss.missing.count;
    let (shortest, longest) = (u64::from(loss.missing.shortest), u64::from(loss.missing.longest));
    if is_size(loss) {
        let text = format!(
            "all {} are {} bytes or longer; every shorter one arrived",
            grouped(count),
            grouped(shortest)
        );
        return Pattern { kind: "size".into(), text };
    }
    if others.passed > 0 && others.lost == 0 && loss.passed == 0 {
        let text = format!("only {protocol}: {} of other protocols passed here", segments(others.passed));
        return Pattern { kind: "protocol".into(), text };
    }
    if loss.passed == 0 {
        return Pattern {
            kind: "all".into(),
            text: format!("nothing passed: all {} are lost", segments(count)),
        };
    }
    let sizes = if shortest == longest {
        grouped(shortest)
    } else {
        format!("{} to {}", grouped(shortest), grouped(longest))
    };
    let text =
        format!("no common size: {sizes} bytes, while up to {} passed", grouped(loss.longest_passed.into()));
    Pattern { kind: "none".into(), text }
}
