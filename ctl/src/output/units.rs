//! Numbers, times and sizes as people read them.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use prost_types::Timestamp as ProtoTimestamp;

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share from 0 to 1 as `3.7 %`. Something is never shown as nothing, nor less than all as all.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent <= 0.0 || percent.is_nan() {
        "0 %".to_owned()
    } else if percent < 0.1 {
        "< 0.1 %".to_owned()
    } else if percent >= 100.0 {
        "100 %".to_owned()
    } else {
        let rounded = (percent * 10.0).round() / 10.0;
        format!("{:.1} %", rounded.min(99.9))
    }
}

/// As [`percent`], rounded down: for confidence, which must not be overstated.
pub fn percent_at_least(ratio: f64) -> String {
    percent((ratio * 1000.0 + 1e-9).floor() / 1000.0)
}

/// A delay: `900 ns`, `4 µs`, `1.2 ms`, `3.05 s`.
pub fn delay(nanos: i64) -> String {
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let of = |unit: f64| size as f64 / unit;
    match size {
        0..1_000 => format!("{sign}{size} ns"),
        1_000..999_500 => format!("{sign}{:.0} µs", of(1e3)),
        999_500..99_950_000 => format!("{sign}{:.1} ms", of(1e6)),
        99_950_000..999_500_000 => format!("{sign}{:.0} ms", of(1e6)),
        _ => format!("{sign}{:.2} s", of(1e9)),
    }
}

/// The bound of a clock's error in milliseconds, rounded up: `0.4 ms`.
pub fn clock_error(nanos: i64) -> String {
    format!("{:.1} ms", (nanos.unsigned_abs() as f64 / 1e5).ceil() / 10.0)
}

/// Offset of a clock with its error: `+0.31 ms ± 0.05 ms`; empty where it was not measured.
pub fn clock(offset: Option<i64>, error: Option<i64>) -> String {
    let Some(offset) = offset else { return String::new() };
    let millis = offset as f64 / 1e6;
    match error {
        Some(error) => format!("{millis:+.2} ms ± {:.2} ms", error as f64 / 1e6),
        None => format!("{millis:+.2} ms"),
    }
}

/// `64.0 MiB`.
pub fn bytes(number: u64) -> String {
    bytesize::ByteSize(number).display().iec().to_string()
}

/// Bits a second: `950 bit/s`, `9.99 Mbit/s`, `1.25 Gbit/s`.
pub fn rate(bits_per_second: u64) -> String {
    let of = |unit: f64| bits_per_second as f64 / unit;
    match bits_per_second {
        0..1_000 => format!("{bits_per_second} bit/s"),
        1_000..999_995 => format!("{:.2} kbit/s", of(1e3)),
        999_995..999_995_000 => format!("{:.2} Mbit/s", of(1e6)),
        _ => format!("{:.2} Gbit/s", of(1e9)),
    }
}

/// Date and time to the millisecond, UTC; empty if absent.
pub fn instant(time: Option<&ProtoTimestamp>) -> String {
    let printer = DateTimePrinter::new().precision(Some(3));
    timestamp(time).map_or_else(String::new, |time| printer.timestamp_to_string(&time))
}

/// Date and time to the second, UTC; empty if absent.
pub fn second(time: Option<&ProtoTimestamp>) -> String {
    let printer = DateTimePrinter::new().precision(Some(0));
    timestamp(time).map_or_else(String::new, |time| printer.timestamp_to_string(&time))
}

/// Time of day to the millisecond, UTC: `14:03:20.000Z`; empty if absent.
pub fn time_of_day(time: Option<&ProtoTimestamp>) -> String {
    timestamp(time).map_or_else(String::new, |time| time.strftime("%H:%M:%S%.3fZ").to_string())
}

/// Time of day to the microsecond, UTC; empty if absent.
pub fn time_of_day_micros(time: Option<&ProtoTimestamp>) -> String {
    timestamp(time).map_or_else(String::new, |time| time.strftime("%H:%M:%S%.6fZ").to_string())
}

/// How long ago, coarsely: `3s`, `5m`, `2h`, `4d`; empty if absent.
pub fn age(time: Option<&ProtoTimestamp>, now: Timestamp) -> String {
    let Some(time) = timestamp(time) else { return String::new() };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time: `30s`, `1m 30s`; empty if absent.
pub fn span(duration: Option<&prost_types::Duration>) -> String {
    let Some(duration) = duration else { return String::new() };
    let duration = jiff::SignedDuration::new(duration.seconds, duration.nanos);
    format!("{duration:#}")
}

/// The instant, absent if it is absent or out of jiff's range (years -9999 to 9999).
pub fn timestamp(time: Option<&ProtoTimestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 12, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(shown, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn shares_are_never_rounded_to_none_or_all() {
        let shown = [0.0, 0.00001, 0.037, 0.125, 0.99999, 1.0].map(percent);
        assert_eq!(shown, ["0 %", "< 0.1 %", "3.7 %", "12.5 %", "99.9 %", "100 %"]);
        assert_eq!(
            [0.999, 0.9995, 0.87654, 1.0].map(percent_at_least),
            ["99.9 %", "99.9 %", "87.6 %", "100 %"]
        );
    }

    #[test]
    fn delays_keep_a_readable_number_of_digits() {
        let shown =
            [0, 900, 4_000, 180_400, 999_700, 1_240_000, 250_000_000, 3_050_000_000, -4_000].map(delay);
        assert_eq!(
            shown,
            ["0 ns", "900 ns", "4 µs", "180 µs", "1.0 ms", "1.2 ms", "250 ms", "3.05 s", "-4 µs"]
        );
    }

    #[test]
    fn rates_are_in_thousands() {
        let shown = [0, 950, 64_000, 9_990_000, 999_999, 999_999_999, 1_250_000_000].map(rate);
        assert_eq!(
            shown,
            [
                "0 bit/s",
                "950 bit/s",
                "64.00 kbit/s",
                "9.99 Mbit/s",
                "1.00 Mbit/s",
                "1.00 Gbit/s",
                "1.25 Gbit/s"
            ]
        );
    }

    #[test]
    fn clocks() {
        assert_eq!(clock_error(310_000), "0.4 ms");
        assert_eq!(clock(Some(310_000), Some(51_000)), "+0.31 ms ± 0.05 ms");
        assert_eq!(clock(None, None), "");
    }

    #[test]
    fn times() {
        let time = ProtoTimestamp { seconds: 1_772_373_800, nanos: 123_456_789 };
        assert_eq!(instant(Some(&time)), "2026-03-01T14:03:20.123Z");
        assert_eq!(time_of_day(Some(&time)), "14:03:20.123Z");
        let now = Timestamp::new(1_772_373_800 + 300, 0).unwrap();
        assert_eq!(age(Some(&time), now), "4m");
        let out_of_range = ProtoTimestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(instant(Some(&out_of_range)), "");
        assert_eq!(span(Some(&prost_types::Duration { seconds: 90, nanos: 0 })), "1m 30s");
    }
}
