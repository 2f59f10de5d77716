//! A packet on one line.

use std::fmt::Write;

use super::view::{EncapsulationView, Inner, PacketView};
use crate::output::{escape, names};

/// The line, without its break.
pub(super) fn line(view: &PacketView) -> String {
    let mut parts = vec![view.number.to_string()];
    parts.extend(view.time.clone());
    parts.extend((!view.vlans.is_empty()).then(|| format!("vlan {}", list(&view.vlans))));
    parts.extend((view.mpls_labels.len() > 1).then(|| format!("labels {}", list(&view.mpls_labels))));
    parts.extend(view.encapsulations.iter().map(encapsulation));
    parts.extend(inner(&view.inner));
    parts.push(format!("captured {} of {}", view.captured_length, view.original_length));
    parts.extend(view.identity.as_ref().map(|identity| format!("identity {identity}")));
    parts.extend(view.note.as_ref().map(|note| escape::line(note).into_owned()));
    if let Some(error) = &view.error {
        let mut text = "not decoded: ".to_owned();
        if let (Some(layer), Some(offset)) = (error.layer, error.offset) {
            let _ = write!(text, "{layer} at byte {offset}: ");
        }
        parts.push(text + &escape::line(&error.reason));
    }
    parts.join("  ")
}

fn list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn encapsulation(tunnel: &EncapsulationView) -> String {
    let end = |address, port: Option<u16>| names::endpoint(address, u32::from(port.unwrap_or_default()));
    let mut text = format!("{} {}", tunnel.kind, tunnel.id);
    if let (Some(source), Some(destination)) = (&tunnel.source, &tunnel.destination) {
        let (source, destination) =
            (end(source, tunnel.source_port), end(destination, tunnel.destination_port));
        let _ = write!(text, " {source} → {destination}");
    }
    if let Some(sequence) = tunnel.sequence {
        let _ = write!(text, " sequence {sequence}");
    }
    format!("[{text}]")
}

fn inner(inner: &Inner) -> Vec<String> {
    let (Some(source), Some(destination)) = (&inner.source, &inner.destination) else { return Vec::new() };
    let end = |address, port: Option<u16>| names::endpoint(address, u32::from(port.unwrap_or_default()));
    let mut parts =
        vec![format!("{} → {}", end(source, inner.source_port), end(destination, inner.destination_port))];
    parts.extend(inner.protocol.clone());
    parts.extend(inner.ip_id.map(|id| format!("ip-id {id}")));
    if let Some(fragment) = &inner.fragment {
        parts.push(format!("fragment {}{}", fragment.offset, if fragment.more { "+" } else { "" }));
    }
    if let (Some(seq), Some(ack), Some(flags)) = (inner.tcp_seq, inner.tcp_ack, &inner.tcp_flags) {
        parts.push(format!("{flags} seq {seq} ack {ack}"));
    }
    if let (Some(kind), Some(code)) = (inner.icmp_type, inner.icmp_code) {
        parts.push(format!("type {kind} code {code}"));
    }
    if let (Some(id), Some(seq)) = (inner.icmp_id, inner.icmp_seq) {
        parts.push(format!("id {id} seq {seq}"));
    }
    parts.extend(inner.payload_length.map(|length| format!("payload {length}")));
    parts
}
