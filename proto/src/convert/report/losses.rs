//! Where segments were lost, why, and which.

use lastseen_correlate::report::{Cause, DropReason, Loss, LostPacket, Pattern, PatternSupport, PointName};

use super::{each, try_each};
use crate::convert::{ConvertError, nanos, timestamp};
use crate::v1;

same_fields!(PointName, PointName, node, interface);
same_fields!(DropReason, DropReason, code, source, location);
same_fields!(
    PatternSupport,
    PatternSupport,
    lost_with,
    lost_without,
    passed_with,
    passed_without,
    paths,
    chance
);
same_fields!(Cause, Cause, code, text, evidence);

impl From<Pattern> for v1::Pattern {
    fn from(pattern: Pattern) -> Self {
        Self { kind: pattern.kind.into(), text: pattern.text, support: pattern.support.map(Into::into) }
    }
}

impl From<v1::Pattern> for Pattern {
    fn from(message: v1::Pattern) -> Self {
        Self { kind: message.kind.into(), text: message.text, support: message.support.map(Into::into) }
    }
}

impl From<Loss> for v1::Loss {
    fn from(loss: Loss) -> Self {
        Self {
            from: Some(loss.from.into()),
            to: loss.to.map(Into::into),
            count: loss.count,
            total: loss.total,
            confidence: loss.confidence,
            reason: loss.reason.map(Into::into),
            pattern: loss.pattern.map(Into::into),
            cause: loss.cause.map(Into::into),
            examples: loss.examples.into_iter().map(lost_packet).collect(),
        }
    }
}

impl TryFrom<v1::Loss> for Loss {
    type Error = ConvertError;

    fn try_from(message: v1::Loss) -> Result<Self, ConvertError> {
        Ok(Self {
            from: message.from.ok_or_else(|| ConvertError::new("loss.from", "", "present"))?.into(),
            to: message.to.map(Into::into),
            count: message.count,
            total: message.total,
            confidence: message.confidence,
            reason: message.reason.map(Into::into),
            pattern: message.pattern.map(Into::into),
            cause: message.cause.map(Into::into),
            examples: try_each(message.examples)?,
        })
    }
}

/// A lost segment for the wire.
pub fn lost_packet(lost: LostPacket) -> v1::LostPacket {
    v1::LostPacket {
        first_seen: Some(timestamp(lost.first_seen_nanos)),
        source: lost.source,
        destination: lost.destination,
        protocol: lost.protocol,
        ip_id: lost.ip_id.map(Into::into),
        tcp_seq: lost.tcp_seq,
        tcp_flags: lost.tcp_flags.map(Into::into),
        payload_length: lost.payload_length,
        last_seen: Some(lost.last_seen.into()),
        missing_at: lost.missing_at.map(Into::into),
        trajectory: each(lost.trajectory),
        ip_length: lost.ip_length,
        confidence: lost.confidence,
    }
}

impl TryFrom<v1::LostPacket> for LostPacket {
    type Error = ConvertError;

    fn try_from(message: v1::LostPacket) -> Result<Self, ConvertError> {
        let narrow = |field, value: u32| ConvertError::new(field, &value, "in range");
        Ok(Self {
            first_seen_nanos: message.first_seen.as_ref().map_or(0, nanos),
            source: message.source,
            destination: message.destination,
            protocol: message.protocol,
            ip_id: message.ip_id.map(|id| id.try_into().map_err(|_| narrow("ip_id", id))).transpose()?,
            tcp_seq: message.tcp_seq,
            tcp_flags: message
                .tcp_flags
                .map(|flags| flags.try_into().map_err(|_| narrow("tcp_flags", flags)))
                .transpose()?,
            ip_length: message.ip_length,
            payload_length: message.payload_length,
            last_seen: message.last_seen.ok_or_else(|| ConvertError::new("last_seen", "", "present"))?.into(),
            missing_at: message.missing_at.map(Into::into),
            trajectory: each(message.trajectory),
            confidence: message.confidence,
        })
    }
}
