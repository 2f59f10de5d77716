//! Whether the report lays a path through the points that truly see its packets, no more and no fewer.

use super::report::{Hop, Path, PointName, Report};
use super::truth::Truth;

/// What differs on the ways there and back that the truth knows.
pub fn check(truth: &Truth, report: &Report) -> Vec<String> {
    let (source, destination) = (truth.faulty.source, truth.faulty.destination);
    let [there, back] = &truth.routes;
    let is_stream = |path: &&Path| {
        path.protocol == "udp"
            && path.source == source.to_string()
            && path.destination == destination.to_string()
    };
    let is_answer =
        |path: &&Path| path.protocol == "tcp" && path.addresses() == Some((destination.ip(), source.ip()));
    let mut differences = Vec::new();
    if let Some(wanted) = there {
        differences.extend(compare(wanted, report.paths.iter().filter(is_stream)));
    }
    if let Some(wanted) = back {
        differences.extend(compare(wanted, report.paths.iter().filter(is_answer)));
    }
    differences
}

fn compare<'r>(wanted: &[PointName], paths: impl Iterator<Item = &'r Path>) -> Vec<String> {
    let mut paths = paths.peekable();
    if paths.peek().is_none() {
        return vec![format!("no path through {}", line(wanted))];
    }
    let differing = paths.filter_map(|path| {
        let seeing = path.hops.iter().filter(|hop| hop.seen > 0).map(|Hop { point, .. }| point.clone());
        let seeing: Vec<_> = seeing.collect();
        (seeing != wanted).then(|| {
            let ends = format!("{} {} → {}", path.protocol, path.source, path.destination);
            format!("{ends}: seen at {}, in truth at {}", line(&seeing), line(wanted))
        })
    });
    differing.collect()
}

fn line(points: &[PointName]) -> String {
    points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::scenario::report::{Hop, Path, PointName};

    fn point(interface: &str) -> PointName {
        PointName { node: "a".to_owned(), interface: interface.to_owned() }
    }

    #[test]
    fn points_that_saw_nothing_are_not_on_the_route() {
        let hop = |interface: &str, seen| Hop { point: point(interface), seen, ..Hop::default() };
        let path = Path { hops: vec![hop("veth", 9), hop("cni0", 0), hop("eth0", 9)], ..Path::default() };
        let differences = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|interface| point(interface)).collect();
            compare(&wanted, [&path].into_iter()).len()
        };
        assert_eq!(differences(&["veth", "eth0"]), 0);
        assert_eq!(differences(&["veth", "cni0", "eth0"]), 1);
        assert_eq!(differences(&["eth0", "veth"]), 1);
        assert_eq!(compare(&[point("veth")], std::iter::empty()).len(), 1);
    }
}
