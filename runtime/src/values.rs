//! Values of flags, as people write them. A refusal that begins with `is` goes on from the value.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::{Span, SpanRelativeTo};

/// A positive length of time with a unit: `30s`, `1m30s`, `500ms`, `90d` (days of 24 hours).
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || "is not a duration; give a number with a unit, for example 30s or 5m".to_owned();
    let span: Span = text.trim().parse().map_err(|_| refused())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    match Duration::try_from(signed) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        _ => Err("is not longer than 0; give, for example, 30s or 5m".to_owned()),
    }
}

/// A number of bytes above 0, with a suffix or without: `1000000`, `64MiB`, `2GB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    match text.trim().parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("is not above 0; give, for example, 64MiB".to_owned()),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err("is not a number of bytes; give, for example, 1000000, 64MiB or 2GB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_must_be_positive() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("90d"), Ok(Duration::from_hours(90 * 24)));
        for bad in ["", "30", "0s", "-5s", "5s ago", "soon", "1y"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_take_both_kinds_of_suffix() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("2GB"), Ok(2_000_000_000));
        assert!(bytes("0").is_err() && bytes("-1").is_err() && bytes("many").is_err());
    }
}
