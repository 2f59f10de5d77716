//! The path of packets that are translated on their way: up to each translation that of the tuple before it, and from
//! there on that of the tuple after it.

use lastseen_packet::observation::FlowKey;

use crate::domain::Domain;
use crate::network::Network;
use crate::path::{self, MAX_HOPS, Path, Seen};

/// The path through all `tuples`, each with what was seen of it, in order. Of a tuple between two others only the part
/// counts that was seen: what it was expected at beyond, the next tuple was.
pub(crate) fn find(network: &Network<'_>, domain: Domain, tuples: &[(FlowKey, Seen)]) -> Path {
    let seen = tuples.iter().filter(|(_, seen)| !seen.points.is_empty());
    let parts: Vec<_> = seen
        .map(|(tuple, seen)| (path::find(network, domain, tuple.source, tuple.destination, seen), seen))
        .collect();
    let mut whole = Path::default();
    for (at, (part, seen)) in parts.iter().enumerate() {
        let was_seen = |point: &usize| seen.points.contains(point);
        let first = if at == 0 { Some(0) } else { part.points.iter().position(was_seen) };
        let end = if at + 1 == parts.len() { None } else { part.points.iter().rposition(was_seen) };
        let range = first.unwrap_or(0)..end.map_or(part.points.len(), |last| last + 1);
        append(&mut whole.points, part.points.get(range).unwrap_or_default());
        whole.is_unordered |= part.is_unordered;
    }
    let of_tunnel = parts.iter().map(|(part, _)| part).find(|part| part.overlay.is_some());
    let first = of_tunnel.or_else(|| parts.first().map(|(part, _)| part));
    if let (Some(first), Some((last, _))) = (first, parts.last()) {
        (whole.source_node, whole.overlay) = (first.source_node, first.overlay);
        whole.destination_node = last.destination_node;
        (whole.is_cut_short, whole.is_open) = (last.is_cut_short, last.is_open);
        whole.is_tenant_unknown = last.is_tenant_unknown;
    }
    whole
}

fn append(points: &mut Vec<usize>, part: &[usize]) {
    for point in part {
        if points.len() < MAX_HOPS && !points.contains(point) {
            points.push(*point);
        }
    }
}
