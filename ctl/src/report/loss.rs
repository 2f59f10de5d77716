//! A leg on which segments were lost: how many, how sure, what they share, and why.

use lastseen_proto::v1::{Loss, LostPacket};

use super::{Options, aligned, plural};
use crate::output::{escape, names, units};

/// Where the kind of a pattern stands.
const PATTERN_COLUMN: usize = 71;

pub(super) fn text(loss: &Loss, unit: &str, options: Options) -> String {
    let mut text = title(loss, unit, options);
    if let Some(pattern) = &loss.pattern {
        let (left, kind) = (format!("  {}", pattern.text), format!("pattern: {}", pattern.kind));
        text += &aligned(&escape::line(&left), &escape::line(&kind), PATTERN_COLUMN);
    }
    if let Some(reason) = &loss.reason {
        let place =
            if reason.location.is_empty() { String::new() } else { format!(" at {}", reason.location) };
        let line = format!("  kernel says: {}{place} ({})", reason.code, reason.source);
        text += &format!("{}\n", escape::line(&line));
    }
    if let Some(cause) = &loss.cause {
        let facts = cause.evidence.join(", ");
        let facts = if facts.is_empty() { facts } else { format!(" ({facts})") };
        text += &format!("  {}\n", escape::line(&format!("likely cause: {}{facts}", cause.text)));
    }
    if options.wide {
        loss.examples.iter().for_each(|packet| text += &example(packet));
    }
    text
}

fn title(loss: &Loss, unit: &str, options: Options) -> String {
    let name = |point: Option<&_>| {
        let name = point.map_or_else(|| "unknown".to_owned(), names::point);
        escape::line(&name).into_owned()
    };
    format!(
        "{}  {} → {}   {}   confidence {}\n",
        options.style.bad("LOST"),
        name(loss.from.as_ref()),
        name(loss.to.as_ref()),
        plural(loss.count, unit),
        units::percent_at_least(loss.confidence),
    )
}

fn example(packet: &LostPacket) -> String {
    let mut line = format!(
        "  {}  {} → {}  {}  {} bytes",
        units::time_of_day_micros(packet.first_seen.as_ref()),
        packet.source,
        packet.destination,
        packet.protocol,
        packet.ip_length
    );
    if let Some(ip_id) = packet.ip_id {
        line += &format!("  ip-id {ip_id}");
    }
    if let Some(seq) = packet.tcp_seq {
        line += &format!("  seq {seq} len {}", packet.payload_length);
    }
    format!("{}\n", escape::line(&line))
}
