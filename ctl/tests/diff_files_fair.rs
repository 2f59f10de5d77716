//! Files that are what their names say, and what is told of those that show little.

mod diff;
mod wire;

use std::fs;
use std::path::Path;

use diff::{diff, losses, notes, report, with_topology};
use tempfile::TempDir;
use wire::{SECOND, START, Stamped, Wire};

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

/// One packet each 20 s for a minute that never comes to b, then traffic that does.
#[test]
fn a_trickle_that_is_lost_before_a_burst_is_not_nothing_lost() {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let later = |(time, frame): &Stamped| (time + 60 * SECOND, frame.clone());
    let burst = |node: &'static str| frames[&(node, "eth0")].iter().map(later).collect::<Vec<_>>();
    let (a, b) = (burst("a"), burst("b"));
    let mut trickle: Vec<Stamped> = Vec::new();
    for (at, (_, frame)) in (0..3).zip(frames[&("a", "eth0")].iter().filter(|frame| frame.1[10] == 1)) {
        let mut frame = frame.clone();
        // Another identification inside, behind 14 + 20 + 8 + 8 + 14 bytes.
        frame[64 + 4] = 0x77;
        trickle.push((START + at * 20 * SECOND, frame));
    }
    let files = [write(dir.path(), "a/eth0", &[trickle, a].concat()), write(dir.path(), "b/eth0", &b)];
    let (report, code) = report(&with_topology(files.to_vec(), dir.path()));
    println!("{}", notes(&report));
    assert!(code != 0, "{:?} {} {}", losses(&report), report["verdict"], report["totals"]);
}
