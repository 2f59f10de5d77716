//! Files that are what their names say.

mod diff;
mod wire;

use std::fs;
use std::path::Path;

use diff::{diff, with_topology};
use tempfile::TempDir;
use wire::{Stamped, Wire};

fn write(dir: &Path, point: &str, frames: &[Stamped]) -> String {
    let file = dir.join(format!("{}.pcap", point.replace('/', "-")));
    fs::write(&file, wire::pcap(frames)).unwrap();
    format!("{point}={}", file.display())
}

/// The pod of b routes for that of a (a firewall, a VPN, a transparent proxy): what comes to it leaves it with the
/// sender's address. Captured with `src host 10.244.1.10`, as one way of a conversation is.
#[test]
fn the_file_of_a_pod_that_routes_is_not_refused() {
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
    let run = diff(&with_topology(files.to_vec(), dir.path()));
    assert_ne!(run.code, Some(2), "{run:?}");
}

/// Addresses that the topology does not know are most of those that come out of the pod: nothing says that all are of
/// another node.
#[test]
fn one_packet_with_the_address_of_another_node_among_strangers_refuses_no_file() {
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
    let run = diff(&with_topology(files.to_vec(), dir.path()));
    assert_ne!(run.code, Some(2), "{run:?}");
}
