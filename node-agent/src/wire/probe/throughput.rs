//! A throughput as messages.

use std::time::Duration;

use lastseen_proto::limits::{
    PROBE_PAYLOAD_BYTES, THROUGHPUT_BYTES, THROUGHPUT_NANOS, THROUGHPUT_RATE, THROUGHPUT_SENDERS,
    THROUGHPUT_TOKEN_BYTES,
};
use lastseen_proto::v1;

use super::span;
use crate::probe::report::{Interval, Role, Throughput};
use crate::probe::spec::{Flow, FlowProtocol, Token};

/// What is sent. The receiver is here if it is on the node of the sources, which are all of this one.
pub(super) fn flow(asked: &v1::ThroughputProbe, sources: &[v1::ProbeSource]) -> Result<Flow, String> {
    let protocol = match v1::ThroughputProtocol::try_from(asked.protocol) {
        Ok(v1::ThroughputProtocol::ThroughputTcp) => FlowProtocol::Tcp,
        Ok(v1::ThroughputProtocol::ThroughputUdp) => FlowProtocol::Udp,
        Err(_) => return Err(format!("protocol: {} is not known here", asked.protocol)),
    };
    let token = <[u8; THROUGHPUT_TOKEN_BYTES]>::try_from(&asked.token[..]);
    let token = token.map_err(|_| format!("token: it has not {THROUGHPUT_TOKEN_BYTES} bytes"))?;
    if asked.senders.len() > THROUGHPUT_SENDERS {
        return Err(format!("senders: {} are above {THROUGHPUT_SENDERS}", asked.senders.len()));
    }
    let sender = |text: &String| text.parse().map_err(|_| format!("senders: {text:.50} is no address"));
    let bits = asked.bits_per_second;
    if let Some(bits) = bits.filter(|bits| !THROUGHPUT_RATE.contains(bits)) {
        let (least, most) = (THROUGHPUT_RATE.start(), THROUGHPUT_RATE.end());
        return Err(format!("bits_per_second: {bits} is not within {least} and {most}"));
    }
    let to = asked.to.as_ref().ok_or("to: missing")?;
    let is_here = sources.first().is_some_and(|own| own.node == to.node);
    Ok(Flow {
        protocol,
        duration: span("duration", asked.duration.as_ref(), &THROUGHPUT_NANOS)?,
        bits_per_second: bits,
        max_bytes: asked
            .max_bytes
            .unwrap_or(THROUGHPUT_BYTES)
            .clamp(PROBE_PAYLOAD_BYTES as u64, THROUGHPUT_BYTES),
        token: Token(token),
        receiver: if is_here { Some(to.netns.parse()?) } else { None },
        senders: asked.senders.iter().map(sender).collect::<Result<_, _>>()?,
    })
}

/// What one end saw.
pub(super) fn seen(seen: &Throughput) -> v1::ThroughputFinding {
    let role = match seen.role {
        Role::Sender => v1::ThroughputRole::ThroughputSender,
        Role::Receiver => v1::ThroughputRole::ThroughputReceiver,
    };
    let nanos = |span: Duration| span.as_nanos() as u64;
    let interval =
        |second: &Interval| v1::throughput_finding::Interval { bytes: second.bytes, packets: second.packets };
    v1::ThroughputFinding {
        role: role.into(),
        bytes: seen.bytes,
        packets: seen.packets,
        duration_nanos: nanos(seen.duration),
        bits_per_second: seen.bits_per_second,
        lost: seen.lost,
        duplicates: seen.duplicates,
        reordered: seen.reordered,
        jitter_nanos: seen.jitter.map(nanos),
        retransmits: seen.retransmits,
        rtt_nanos: seen.rtt.map(nanos),
        overflowed: seen.overflowed,
        strangers: seen.strangers,
        not_sent: seen.not_sent,
        intervals: seen.seconds.iter().map(interval).collect(),
    }
}
