//! The flow dictionary of a batch.

use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, Overlay, OverlayKind};

use super::BatchError;
use super::wire::{Reader, put_varint};

const WHAT: &str = "the flow dictionary";

/// Bits of an entry's first byte.
const SOURCE_V6: u8 = 1;
const DESTINATION_V6: u8 = 2;
const OVERLAY: u8 = 4;
const OVERLAY_SOURCE_V6: u8 = 8;
const OVERLAY_DESTINATION_V6: u8 = 16;
const KNOWN: u8 = 31;

pub(super) fn encode(flows: &[FlowKey], out: &mut Vec<u8>) {
    for flow in flows {
        let mut shape = SOURCE_V6 * u8::from(flow.source.is_ipv6());
        shape |= DESTINATION_V6 * u8::from(flow.destination.is_ipv6());
        if let Some(overlay) = &flow.overlay {
            shape |= OVERLAY;
            shape |= OVERLAY_SOURCE_V6 * u8::from(overlay.source.is_ipv6());
            shape |= OVERLAY_DESTINATION_V6 * u8::from(overlay.destination.is_ipv6());
        }
        out.push(shape);
        put_address(flow.source, out);
        put_address(flow.destination, out);
        out.push(flow.protocol);
        out.extend_from_slice(&flow.source_port.to_le_bytes());
        out.extend_from_slice(&flow.destination_port.to_le_bytes());
        if let Some(overlay) = &flow.overlay {
            out.push(overlay.kind as u8);
            put_varint(overlay.id.into(), out);
            put_address(overlay.source, out);
            put_address(overlay.destination, out);
            out.extend_from_slice(&overlay.port.to_le_bytes());
        }
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, count: u32) -> Result<Vec<FlowKey>, BatchError> {
    // An entry takes at least 14 bytes, so a lying count cannot ask for more memory than the bytes justify.
    let mut flows = Vec::with_capacity((count as usize).min(reader.remaining() / 14 + 1));
    for _ in 0..count {
        let shape = reader.byte(WHAT)?;
        if shape & !KNOWN != 0 {
            return Err(BatchError::Value(WHAT));
        }
        flows.push(FlowKey {
            source: address(reader, shape & SOURCE_V6 != 0)?,
            destination: address(reader, shape & DESTINATION_V6 != 0)?,
            protocol: reader.byte(WHAT)?,
            source_port: port(reader)?,
            destination_port: port(reader)?,
            overlay: if shape & OVERLAY == 0 { None } else { Some(overlay(reader, shape)?) },
        });
    }
    Ok(flows)
}

fn overlay(reader: &mut Reader<'_>, shape: u8) -> Result<Overlay, BatchError> {
    Ok(Overlay {
        kind: kind(reader.byte(WHAT)?)?,
        id: reader.varint_u32(WHAT)?,
        source: address(reader, shape & OVERLAY_SOURCE_V6 != 0)?,
        destination: address(reader, shape & OVERLAY_DESTINATION_V6 != 0)?,
        port: port(reader)?,
    })
}

fn kind(byte: u8) -> Result<OverlayKind, BatchError> {
    OverlayKind::ALL
        .into_iter()
        .find(|kind| *kind != OverlayKind::None && *kind as u8 == byte)
        .ok_or(BatchError::Value(WHAT))
}

fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn address(reader: &mut Reader<'_>, v6: bool) -> Result<IpAddr, BatchError> {
    Ok(if v6 { IpAddr::from(reader.bytes::<16>(WHAT)?) } else { IpAddr::from(reader.bytes::<4>(WHAT)?) })
}

fn port(reader: &mut Reader<'_>) -> Result<u16, BatchError> {
    reader.bytes(WHAT).map(u16::from_le_bytes)
}
