//! Paths and the observation points along them.

use lastseen_correlate::report::{Hop, OverlayReport, PathReport, PieceBytes, Translation};

use super::{each, try_each};
use crate::convert::{ConvertError, enums};
use crate::v1;

same_fields!(Translation, Translation, source, destination, node);
same_fields!(PieceBytes, PieceBytes, total, lost);

impl From<OverlayReport> for v1::OverlayReport {
    fn from(overlay: OverlayReport) -> Self {
        Self { kind: v1::OverlayKind::from(overlay.kind).into(), id: overlay.id }
    }
}

impl From<v1::OverlayReport> for OverlayReport {
    fn from(message: v1::OverlayReport) -> Self {
        Self { kind: message.kind().into(), id: message.id }
    }
}

impl From<PathReport> for v1::PathReport {
    fn from(path: PathReport) -> Self {
        Self {
            source: path.source,
            destination: path.destination,
            protocol: path.protocol,
            overlay: path.overlay.map(Into::into),
            translations: each(path.translations),
            totals: Some(path.totals.into()),
            in_pieces: path.in_pieces.map(Into::into),
            hops: each(path.hops),
            losses: each(path.losses),
        }
    }
}

impl TryFrom<v1::PathReport> for PathReport {
    type Error = ConvertError;

    fn try_from(message: v1::PathReport) -> Result<Self, ConvertError> {
        Ok(Self {
            source: message.source,
            destination: message.destination,
            protocol: message.protocol,
            overlay: message.overlay.map(Into::into),
            translations: each(message.translations),
            totals: message.totals.unwrap_or_default().into(),
            in_pieces: message.in_pieces.map(Into::into),
            hops: try_each(message.hops)?,
            losses: try_each(message.losses)?,
        })
    }
}

impl From<Hop> for v1::Hop {
    fn from(hop: Hop) -> Self {
        Self {
            node: hop.node,
            interface: hop.interface,
            kind: v1::InterfaceKind::from(hop.kind).into(),
            direction: hop.direction.map_or(v1::Direction::Unspecified, Into::into).into(),
            view: hop.view,
            seen: hop.seen,
            missing_after: hop.missing_after,
            blind_ratio: hop.blind_ratio,
            delay_p50_nanos: hop.delay_p50_nanos,
            delay_p99_nanos: hop.delay_p99_nanos,
            bypassed: hop.bypassed,
            // What a report does not hold: a trace adds it.
            minimum_ttl: None,
            maximum_ttl: None,
            mtu: None,
        }
    }
}

impl TryFrom<v1::Hop> for Hop {
    type Error = ConvertError;

    fn try_from(message: v1::Hop) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: message.kind().into(),
            direction: match v1::Direction::try_from(message.direction) {
                Ok(_) => enums::direction(message.direction),
                Err(_) => return Err(ConvertError::new("hop.direction", &message.direction, "IN or OUT")),
            },
            node: message.node,
            interface: message.interface,
            view: message.view,
            seen: message.seen,
            missing_after: message.missing_after,
            blind_ratio: message.blind_ratio,
            delay_p50_nanos: message.delay_p50_nanos,
            delay_p99_nanos: message.delay_p99_nanos,
            bypassed: message.bypassed,
        })
    }
}
