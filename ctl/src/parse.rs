//! Values of flags, as people write them. A refusal that begins with `is` goes on from the value.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
pub use lastseen_runtime::values::{bytes, duration};

/// A whole number from `least` to `most`.
pub fn whole<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| match text.trim().parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("is not a whole number from {least} to {most}")),
    }
}

/// How many of something: 1 or more.
pub fn positive<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.trim().parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| "is not a whole number above 0; give, for example, 100".to_owned())
}

/// One in how many: `1/100`.
pub fn one_in(text: &str) -> Result<u32, String> {
    let interval = text.trim().strip_prefix("1/").and_then(|interval| interval.parse().ok());
    interval
        .filter(|interval| *interval > 0)
        .ok_or_else(|| "is not 1/N with a whole number N above 0; give, for example, 1/100".to_owned())
}

/// An instant, RFC 3339: `2026-03-01T14:03:20Z`.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    text.trim().parse().map_err(|_| {
        "is not a time; give RFC 3339 with an offset, for example 2026-03-01T14:03:20Z".to_owned()
    })
}

/// An instant of the past: RFC 3339, or how long ago it was: `1h`.
pub fn since(text: &str) -> Result<Timestamp, String> {
    let refused = "is neither a time nor a length of time; give, for example, 2026-03-01T14:03:20Z or 1h";
    instant(text).or_else(|_| {
        let ago = SignedDuration::try_from(duration(text).map_err(|_| refused)?).map_err(|_| refused)?;
        Timestamp::now().checked_sub(ago).map_err(|_| refused.to_owned())
    })
}

/// A share: `0.1%`, or a number from 0 to 1.
pub fn ratio(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>().map(|number| number / scale) {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("is not a share from 0 to 100%; give, for example, 0.1% or 0.001".to_owned()),
    }
}

/// Bits a second: `100M`, `1.5G`, `64000`; thousands, not 1,024s.
pub fn rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let scales = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
    let scaled = scales.iter().find_map(|(letter, scale)| Some((text.strip_suffix(*letter)?, *scale)));
    let (number, scale) = scaled.unwrap_or((text, 1.0));
    match number.parse::<f64>().map(|number| number * scale) {
        Ok(bits) if (1.0..=1e15).contains(&bits) => Ok(bits as u64),
        _ => Err("is not a rate in bits a second; give, for example, 100M or 1G".to_owned()),
    }
}

/// `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("is not KEY=VALUE; give, for example, team=network".to_owned()),
    }
}

/// The instant `delay` from now, by this machine's clock.
pub fn from_now(delay: Duration) -> Result<Timestamp, String> {
    let too_far = |_| "is too far ahead; give a time within the next days".to_owned();
    let delay = SignedDuration::try_from(delay).map_err(too_far)?;
    Timestamp::now().checked_add(delay).map_err(too_far)
}

/// A length of time as it is sent.
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos() as i32 }
}

/// As a message holds it.
pub fn proto_timestamp(time: Timestamp) -> prost_types::Timestamp {
    // A Timestamp of the protocol counts nanoseconds forward, also before 1970; jiff's nanoseconds share the sign.
    let nanos = time.subsec_nanosecond();
    let borrow = i64::from(nanos < 0);
    prost_types::Timestamp {
        seconds: time.as_second() - borrow,
        nanos: nanos + borrow as i32 * 1_000_000_000,
    }
}

/// The certificates of `--ca`, PEM; none without a file.
pub fn authorities(file: Option<&Path>) -> anyhow::Result<String> {
    let Some(path) = file else { return Ok(String::new()) };
    let pem = std::fs::read_to_string(path).with_context(|| format!("--ca: {}", path.display()))?;
    ensure!(!pem.trim().is_empty(), "--ca: the file is empty; leave it out for the web's authorities");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_their_range() {
        let snaplen = whole(64_u32, 65_535);
        assert_eq!((snaplen("64"), snaplen("65535")), (Ok(64), Ok(65_535)));
        for bad in ["63", "65536", "-64", "x", "", "99999999999"] {
            assert_eq!(snaplen(bad), Err("is not a whole number from 64 to 65535".to_owned()), "{bad}");
        }
        assert_eq!(positive::<u64>("1"), Ok(1));
        assert!(["0", "-5", "1.5", "many"].into_iter().all(|bad| positive::<u64>(bad).is_err()));
    }

    #[test]
    fn samples_are_one_in_some_number() {
        assert_eq!([one_in("1/1"), one_in("1/4"), one_in(" 1/1000 ")], [Ok(1), Ok(4), Ok(1000)]);
        for bad in
            ["2/3", "0/5", "1/0", "1/-4", "1/ 4", "1/x", "1", "4", "0.25", "25%", "all", "", "1/99999999999"]
        {
            assert!(one_in(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ratios_are_shares() {
        assert_eq!(ratio("0.1%"), Ok(0.001));
        assert_eq!(ratio("0.25"), Ok(0.25));
        assert_eq!(ratio("100 %"), Ok(1.0));
        for bad in ["101%", "-1%", "2", "NaN", "some", "%"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_bits_a_second() {
        assert_eq!(
            ["100M", "1.5G", "64k", "64000"].map(rate),
            [Ok(100_000_000), Ok(1_500_000_000), Ok(64_000), Ok(64_000)]
        );
        assert!(["", "M", "0", "-1M", "NaN", "1T", "1MB"].into_iter().all(|bad| rate(bad).is_err()));
    }

    #[test]
    fn the_past_is_a_time_or_how_long_ago() {
        assert_eq!(since("2026-03-01T14:03:20Z"), instant("2026-03-01T14:03:20Z"));
        let then = since("1h").unwrap();
        let ago = Timestamp::now().duration_since(then);
        assert!((3_600..3_700).contains(&ago.as_secs()), "{ago}");
        for bad in ["", "yesterday", "-1h", "100000000000h"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_and_instants() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err() && label("=b").is_err());
        assert!(instant("2026-03-01T14:03:20+01:00").is_ok());
        assert!(instant("2026-03-01 14:03").is_err() && instant("tomorrow").is_err());
    }

    #[test]
    fn instants_before_1970_keep_positive_nanoseconds() {
        let time = proto_timestamp(Timestamp::new(-1, -500_000_000).unwrap());
        assert_eq!((time.seconds, time.nanos), (-2, 500_000_000));
    }
}
