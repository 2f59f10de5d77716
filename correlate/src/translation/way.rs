//! The path of packets that are translated on their way: up to each translation that of the tuple before it, and from
//! there on that of the tuple after it.

use lastseen_packet::observation::FlowKey;

use crate::fabric::domain::Domain;
use crate::fabric::network::Network;
use crate::path::{self, MAX_HOPS, Path, Seen};

/// The path through all `tuples`, each with what was seen of it, in order. Of a tuple between two others only the part
/// counts that was seen: what it was expected at beyond, the next tuple was. The last may not have been seen at all.
pub(crate) fn find(network: &Network<'_>, domain: Domain, tuples: &[(FlowKey, Seen)]) -> Path {
    let seen = tuples.iter().filter(|(_, seen)| !seen.points.is_empty());
    let parts: Vec<_> = seen
        .map(|(tuple, seen)| (path::find(network, domain, tuple.source, tuple.destination, seen), seen))
        .collect();
    let unseen = tuples.last().filter(|(_, seen)| seen.points.is_empty());
    let onward = unseen.map(|(tuple, _)| path::expect(network, domain, tuple.source, tuple.destination));
    let mut whole = Path::default();
    for (at, (part, seen)) in parts.iter().enumerate() {
        let was_seen = |point: &usize| seen.points.contains(point);
        let first = if at == 0 { Some(0) } else { part.points.iter().position(was_seen) };
        let is_end = at + 1 == parts.len() && onward.is_none();
        let end = if is_end { None } else { part.points.iter().rposition(was_seen) };
        let range = first.unwrap_or(0)..end.map_or(part.points.len(), |last| last + 1);
        append(&mut whole.points, part.points.get(range).unwrap_or_default());
        whole.is_unordered |= part.is_unordered;
    }
    let is_known = onward.as_ref().is_none_or(|onward| go_on(&mut whole.points, onward));
    let all: Vec<_> = parts.into_iter().map(|(part, _)| part).chain(onward).collect();
    let of_tunnel = all.iter().find(|part| part.overlay.is_some());
    if let (Some(first), Some(last)) = (of_tunnel.or_else(|| all.first()), all.last()) {
        (whole.source_node, whole.overlay) = (first.source_node, first.overlay);
        whole.destination_node = last.destination_node;
        (whole.is_cut_short, whole.is_open) = (last.is_cut_short, last.is_open || !is_known);
        whole.is_tenant_unknown = last.is_tenant_unknown;
    }
    whole
}

/// Adds what lies beyond the last point, and tells whether anything is known of it: a point, or that a node which was
/// captured takes the packets itself.
fn go_on(points: &mut Vec<usize>, onward: &Path) -> bool {
    let count = points.len();
    let passed = onward.points.iter().rposition(|point| points.contains(point));
    append(points, &onward.points[passed.map_or(0, |at| at + 1)..]);
    points.len() > count || onward.destination_node.is_some()
}

fn append(points: &mut Vec<usize>, part: &[usize]) {
    for point in part {
        if points.len() < MAX_HOPS && !points.contains(point) {
            points.push(*point);
        }
    }
}
