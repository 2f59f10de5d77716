//! Files that are what their names say, and files that are not.

use crate::wire;
use std::fs;
use std::path::Path;

use crate::diff::{report, with_topology};
use crate::wire::{Stamped, Wire};
use tempfile::TempDir;

fn write(dir: &Path, point: &str, frames: &[Stamped]) -> String {
    let file = dir.join(format!("{}.pcap", point.replace('/', "-")));
    fs::write(&file, wire::pcap(frames)).unwrap();
    format!("{point}={}", file.display())
}

/// What a report says of files that may be of other nodes.
fn doubts(files: &[String], dir: &Path) -> String {
    let (report, _) = report(&with_topology(files.to_vec(), dir));
    let nodes = report["nodes"].as_array().unwrap().iter();
    let notes = nodes.flat_map(|node| node["coverage"].as_array().into_iter().flatten());
    let is_doubt = |note: &&str| note.contains("addresses that the topology has on other nodes");
    notes.filter_map(|note| note.as_str()).filter(is_doubt).collect::<Vec<_>>().join("\n")
}

/// What goes one way, given as `name` with a direction: from the pod or node of a, behind so many packets of b's.
fn doubts_one_way(interface: &'static str, name: &str, (own, others): (usize, usize)) -> String {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let sent = |node: &'static str, from: u8, count: usize| {
        // From the pod, or the node, and not its bridge.
        let is_sent = move |frame: &[u8]| frame[10] == from && frame[11] != 4;
        let frames = frames[&(node, interface)].iter().filter(|(_, frame)| is_sent(frame));
        frames.take(count).cloned().collect::<Vec<_>>()
    };
    let sent = [sent("b", 2, own), sent("a", 1, others)].concat();
    doubts(
        &[write(dir.path(), "a/flannel.1", &frames[&("a", "flannel.1")]), write(dir.path(), name, &sent)],
        dir.path(),
    )
}

#[test]
fn files_whose_senders_are_on_another_node_are_doubted_and_not_refused() {
    let said = doubts_one_way("veth", "b/veth/in", (0, 10));
    assert!(
        said.starts_with("b/veth/in: all 10 IP packets that go in there, as from its pod, are from "),
        "{said}"
    );
    assert!(said.contains("the first from 10.244.1.10 on a, and none from one of b; if "), "{said}");
    let said = doubts_one_way("eth0", "b/eth0/out", (0, 300));
    assert!(said.starts_with("b/eth0/out: all 300 tunnel packets that go out there are from "), "{said}");
    assert!(said.contains("the first from 192.168.0.1 on a,"), "{said}");
}

#[test]
fn a_packet_of_the_own_node_or_few_packets_leave_no_doubt() {
    for (interface, name) in [("veth", "b/veth/in"), ("eth0", "b/eth0/out")] {
        assert_eq!(doubts_one_way(interface, name, (1, 299)), "");
        assert_eq!(doubts_one_way(interface, name, (0, 9)), "");
    }
}

/// The topology was taken before the pods of both nodes were made anew, with other MAC addresses.
#[test]
fn files_with_mac_addresses_that_the_topology_does_not_know_are_not_doubted() {
    let dir = TempDir::new().unwrap();
    let mut frames = Wire::default().frames();
    let files = ["a", "b"].map(|node| {
        let veth = frames.get_mut(&(node, "veth")).unwrap();
        for (_, frame) in &mut *veth {
            (frame[1], frame[7]) = (9, 9);
        }
        write(dir.path(), &format!("{node}/veth"), veth)
    });
    assert_eq!(doubts(&files, dir.path()), "");
    let (report, code) = report(&with_topology(files.to_vec(), dir.path()));
    assert_eq!((report["verdict"].as_str(), code), (Some("DELIVERED"), 0), "{report:#}");
}

/// The pod of b routes for that of a (a firewall, a VPN, a transparent proxy): what comes to it leaves it with the
/// sender's address. Captured with `src host 10.244.1.10`, as one way of a conversation is.
#[test]
fn the_file_of_a_pod_that_routes_is_not_doubted() {
    let dir = TempDir::new().unwrap();
    let mut frames = Wire { is_one_way: true, ..Wire::default() }.frames();
    let veth = frames.get_mut(&("b", "veth")).unwrap();
    let onward = |(time, frame): &Stamped| {
        let mut frame = frame.clone();
        let (to, from) = frame[..12].split_at_mut(6);
        to.swap_with_slice(from);
        frame[22] -= 1;
        (time + 30_000, frame)
    };
    let sent: Vec<_> = veth.iter().map(onward).collect();
    veth.extend(sent);
    veth.sort_by_key(|frame| frame.0);
    let files = [("a", "veth"), ("b", "veth")].map(|(node, interface)| {
        write(dir.path(), &format!("{node}/{interface}"), &frames[&(node, interface)])
    });
    assert_eq!(doubts(&files, dir.path()), "");
}

/// Addresses that the topology does not know are most of those that come out of the pod: nothing says that all are of
/// another node.
#[test]
fn one_packet_with_the_address_of_another_node_among_strangers_says_nothing() {
    let dir = TempDir::new().unwrap();
    let mut frames = Wire::default().frames();
    let mut forwarded = false;
    for (_, frame) in frames.get_mut(&("b", "veth")).unwrap().iter_mut().filter(|(_, frame)| frame[10] == 2) {
        if frame[11] == 100 {
            // The source address, behind 14 + 12 bytes.
            let source = if forwarded { [203, 0, 113, 9] } else { [10, 244, 1, 10] };
            frame[26..30].copy_from_slice(&source);
            forwarded = true;
        }
    }
    let files = [("a", "veth"), ("b", "veth")].map(|(node, interface)| {
        write(dir.path(), &format!("{node}/{interface}"), &frames[&(node, interface)])
    });
    assert_eq!(doubts(&files, dir.path()), "");
}
