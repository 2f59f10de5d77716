//! The report as a person reads it. The first test is the contract: scripts and people know this layout.

#![allow(clippy::unnecessary_wraps, reason = "message fields are optional")]

use lastseen_ctl::report::{Options, text};
use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::*;
use prost_types::Timestamp;

/// 2026-03-01T14:03:20Z.
const START: i64 = 1_772_373_800;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: START + seconds, nanos: 0 })
}

fn node(name: &str, error_nanos: i64) -> NodeReport {
    NodeReport {
        node: name.into(),
        state: CaptureState::Completed as i32,
        clock_error_nanos: Some(error_nanos),
        packets: 1_000,
        ..Default::default()
    }
}

fn hop(node: &str, interface: &str, direction: Direction, view: &str, seen: u64, delay: Option<i64>) -> Hop {
    Hop {
        node: node.into(),
        interface: interface.into(),
        direction: direction as i32,
        view: view.into(),
        seen,
        delay_p50_nanos: delay,
        delay_p99_nanos: delay.map(|nanos| nanos * 3),
        ..Default::default()
    }
}

fn point(node: &str, interface: &str) -> Option<PointName> {
    Some(PointName { node: node.into(), interface: interface.into() })
}

fn lossy_path() -> PathReport {
    use Direction::{In, Out};
    let mut hops = vec![
        hop("node-a", "veth1a2b", In, "inner", 1_000, None),
        hop("node-a", "cni0", In, "inner", 1_000, Some(4_000)),
        hop("node-a", "flannel.1", Out, "inner", 1_000, Some(9_000)),
        hop("node-a", "eth0", Out, "vxlan 1", 1_000, Some(11_000)),
        hop("node-b", "eth0", In, "vxlan 1", 963, Some(180_000)),
        hop("node-b", "flannel.1", In, "inner", 963, Some(12_000)),
        hop("node-b", "cni0", Out, "inner", 963, Some(7_000)),
        hop("node-b", "veth3c4d", Out, "inner", 963, Some(5_000)),
    ];
    hops[3].missing_after = 37;
    PathReport {
        source: "10.244.1.10:41822".into(),
        destination: "10.244.2.10:80".into(),
        protocol: "tcp".into(),
        overlay: Some(OverlayReport { kind: OverlayKind::Vxlan as i32, id: 1 }),
        totals: Some(SegmentTotals { segments: 1_000, delivered: 963, lost: 37, ..Default::default() }),
        hops,
        losses: vec![mtu_loss()],
        ..Default::default()
    }
}

fn mtu_loss() -> Loss {
    Loss {
        from: point("node-a", "eth0"),
        to: point("node-b", "eth0"),
        count: 37,
        total: 1_000,
        confidence: 0.9995,
        pattern: Some(Pattern {
            kind: "size".into(),
            text: "all 37 are 1,500 bytes or longer; every shorter one arrived".into(),
            support: None,
        }),
        cause: Some(Cause {
            code: "mtu_black_hole".into(),
            text: "MTU black hole on the underlay".into(),
            evidence: vec!["node-a eth0 1500".into(), "largest that arrived 1,450".into()],
        }),
        ..Default::default()
    }
}

fn clean_path(source: &str, segments: u64) -> PathReport {
    PathReport {
        source: source.into(),
        destination: "10.244.1.10:41822".into(),
        protocol: "tcp".into(),
        overlay: Some(OverlayReport { kind: OverlayKind::Vxlan as i32, id: 1 }),
        totals: Some(SegmentTotals { segments, delivered: segments, ..Default::default() }),
        hops: vec![hop("node-b", "eth0", Direction::Out, "vxlan 1", segments, None)],
        ..Default::default()
    }
}

fn report(verdict: Verdict, paths: Vec<PathReport>) -> DiffReport {
    let mut totals = SegmentTotals::default();
    for path in paths.iter().filter_map(|path| path.totals) {
        totals.segments += path.segments;
        totals.delivered += path.delivered;
        totals.lost += path.lost;
        totals.not_observable += path.not_observable;
    }
    DiffReport {
        capture_id: "c-7f3k".into(),
        name: "flannel-mtu".into(),
        window: Some(Window { start: at(0), end: at(10) }),
        verdict: verdict as i32,
        totals: Some(totals),
        nodes: vec![node("node-a", 200_000), node("node-b", 400_000), node("node-c", 100_000)],
        paths,
        notes: vec!["observed with no capture loss at any of 8 points".into()],
        ..Default::default()
    }
}

fn shown(report: &DiffReport) -> String {
    text(report, Options::default())
}

#[test]
fn a_loss_looks_as_documented() {
    let expected = "\
capture c-7f3k  flannel-mtu  14:03:20.000Z – 14:03:30.000Z  3 of 3 nodes  clock error ≤ 0.4 ms

10.244.1.10:41822 → 10.244.2.10:80  tcp  vxlan vni 1                     lost 37 of 1,000 segments
  #  node    interface   dir  sees         segments   lost after     p50 delay
  1  node-a  veth1a2b    in   inner           1,000        –              –
  2  node-a  cni0        in   inner           1,000        –           4 µs
  3  node-a  flannel.1   out  inner           1,000        –           9 µs
  4  node-a  eth0        out  vxlan 1         1,000       37 ◀ 3.7 %  11 µs
  5  node-b  eth0        in   vxlan 1           963        –         180 µs
  6  node-b  flannel.1   in   inner             963        –          12 µs
  7  node-b  cni0        out  inner             963        –           7 µs
  8  node-b  veth3c4d    out  inner             963        –           5 µs
LOST  node-a eth0 → node-b eth0   37 segments   confidence 99.9 %
  all 37 are 1,500 bytes or longer; every shorter one arrived          pattern: size
  likely cause: MTU black hole on the underlay (node-a eth0 1500, largest that arrived 1,450)

observed with no capture loss at any of 8 points
";
    assert_eq!(shown(&report(Verdict::Lost, vec![lossy_path()])), expected);
}

#[test]
fn nothing_lost_is_a_line_per_path() {
    let paths = vec![clean_path("10.244.2.10:80", 1_000), clean_path("10.244.2.10:81", 1)];
    insta::assert_snapshot!(shown(&report(Verdict::Delivered, paths)), @r"
    capture c-7f3k  flannel-mtu  14:03:20.000Z – 14:03:30.000Z  3 of 3 nodes  clock error ≤ 0.4 ms

    10.244.2.10:80 → 10.244.1.10:41822  tcp  vxlan vni 1                     1,000 of 1,000 segments arrived
    10.244.2.10:81 → 10.244.1.10:41822  tcp  vxlan vni 1                     1 of 1 segment arrived

    nothing lost
    observed with no capture loss at any of 8 points
    ");
}

#[test]
fn packets_that_were_left_out_are_told_in_one_line() {
    let mut report = report(Verdict::Delivered, vec![clean_path("10.244.2.10:80", 7)]);
    assert!(!shown(&report).contains("left out"), "nothing was");
    (report.nodes[0].own_connections, report.nodes[0].unreadable) = (1_200, 3);
    report.nodes[2].own_connections = 4;
    let text = shown(&report);
    assert!(text.ends_with("\npackets left out: 1,204 of Lastseen's own, 3 unreadable\n"), "{text}");
    report.nodes[1].undecoded = 37;
    assert!(shown(&report).ends_with(": 1,204 of Lastseen's own, 37 not IP, 3 unreadable\n"));
}

#[test]
fn many_clean_paths_do_not_bury_a_finding() {
    let mut paths = vec![lossy_path()];
    paths.extend((0..25).map(|n| clean_path(&format!("10.0.0.{n}:1"), 5)));
    let all = report(Verdict::Lost, paths);
    let text = shown(&all);
    assert_eq!(text.lines().filter(|line| line.contains("5 of 5 segments arrived")).count(), 10);
    assert!(text.contains("\n15 more paths without a finding; -o wide shows all\n"), "{text}");
    let wide = lastseen_ctl::report::text(&all, Options { wide: true, ..Options::default() });
    assert!(wide.contains("10.0.0.24:1") && !wide.contains("without a finding"), "{wide}");
}

#[test]
fn paths_that_did_not_fit_are_counted_with_a_way_to_see_them() {
    let mut report = report(Verdict::Delivered, vec![clean_path("10.244.1.10:1", 5)]);
    assert!(!shown(&report).contains("not listed"));
    report.omitted_paths = 1_200;
    let expected =
        "\n1,200 more paths not listed: capture with a narrower filter, or see `ctl list-flows c-7f3k`\n";
    let text = shown(&report);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn an_early_end_that_is_also_a_gap_is_told_once() {
    let mut report = report(Verdict::Delivered, vec![clean_path("10.244.2.10:80", 7)]);
    report.nodes[0].reason = "stopped 2 s before the planned end".into();
    report.nodes[0].coverage = vec![report.nodes[0].reason.clone(), "cali1 vanished".into()];
    let text = shown(&report);
    assert_eq!(text.matches("stopped 2 s").count(), 1, "{text}");
    assert!(text.contains("node-a: cali1 vanished\n"), "{text}");
}

#[test]
fn a_blind_point_says_so_and_hides_nothing() {
    let mut path = clean_path("10.244.2.10:80", 969);
    path.totals =
        Some(SegmentTotals { segments: 1_000, delivered: 969, not_observable: 31, ..Default::default() });
    let mut blind = hop("node-a", "eth0", Direction::In, "vxlan 1", 969, Some(1_250_000));
    blind.blind_ratio = 0.031;
    path.hops.push(blind);
    let mut report = report(Verdict::Inconclusive, vec![path, clean_path("10.244.2.10:81", 7)]);
    report.nodes[2].state = CaptureState::Failed as i32;
    report.nodes[1].coverage = vec!["cali1 vanished at 14:03:25Z".into()];
    report.notes = vec![
        "node-c did not complete: filter: needs a newer libpcap".into(),
        "node-a eth0 in: dropped 31 of 1,000 packets (ring full)".into(),
    ];
    insta::assert_snapshot!(shown(&report), @r"
    capture c-7f3k  flannel-mtu  14:03:20.000Z – 14:03:30.000Z  2 of 3 nodes  clock error ≤ 0.4 ms
    node-b: cali1 vanished at 14:03:25Z

    10.244.2.10:80 → 10.244.1.10:41822  tcp  vxlan vni 1                     969 of 1,000 segments arrived, 31 not observable
      #  node    interface   dir  sees         segments   lost after     p50 delay
      1  node-b  eth0        out  vxlan 1           969        –              –
      2  node-a  eth0        in   vxlan 1           969        –         1.2 ms  blind 3.1 %

    10.244.2.10:81 → 10.244.1.10:41822  tcp  vxlan vni 1                     7 of 7 segments arrived

    inconclusive: 31 of 1,007 segments not observable or ambiguous
    node-c did not complete: filter: needs a newer libpcap
    node-a eth0 in: dropped 31 of 1,000 packets (ring full)
    ");
}

#[test]
fn a_total_black_hole_with_a_reason_and_no_next_point() {
    let mut path = lossy_path();
    path.hops.truncate(4);
    (path.hops[3].missing_after, path.hops[3].seen) = (1_000, 1_000);
    path.totals = Some(SegmentTotals { segments: 1_000, lost: 1_000, ..Default::default() });
    path.translations = vec![Translation {
        source: "192.168.0.1:1024".into(),
        destination: "10.96.0.10:80".into(),
        node: Some("node-a".into()),
    }];
    path.losses = vec![Loss {
        from: point("node-a", "eth0"),
        count: 1_000,
        total: 1_000,
        confidence: 1.0,
        reason: Some(DropReason {
            code: "NETFILTER_DROP".into(),
            source: "kfree_skb".into(),
            location: "nft_do_chain".into(),
        }),
        ..Default::default()
    }];
    let mut report = report(Verdict::Lost, vec![path]);
    report.partial = true;
    report.nodes[0].state = CaptureState::Running as i32;
    insta::assert_snapshot!(shown(&report), @r"
    capture c-7f3k  flannel-mtu  14:03:20.000Z – 14:03:30.000Z  3 of 3 nodes  clock error ≤ 0.4 ms  partial

    10.244.1.10:41822 → 10.244.2.10:80  tcp  vxlan vni 1                     lost 1,000 of 1,000 segments
      also seen as 192.168.0.1:1024 → 10.96.0.10:80, translated by node-a
      #  node    interface   dir  sees         segments   lost after     p50 delay
      1  node-a  veth1a2b    in   inner           1,000        –              –
      2  node-a  cni0        in   inner           1,000        –           4 µs
      3  node-a  flannel.1   out  inner           1,000        –           9 µs
      4  node-a  eth0        out  vxlan 1         1,000    1,000 ◀ 100 %  11 µs
    LOST  node-a eth0 → unknown   1,000 segments   confidence 100 %
      kernel says: NETFILTER_DROP at nft_do_chain (kfree_skb)

    partial: the capture still runs; what has passed the guard is judged
    observed with no capture loss at any of 8 points
    ");
}

#[test]
fn wide_shows_every_hop_dates_and_examples() {
    let mut path = lossy_path();
    path.hops.drain(1..3);
    path.losses[0].examples = vec![LostPacket {
        first_seen: Some(Timestamp { seconds: START + 1, nanos: 123_456_789 }),
        source: "10.244.1.10:41822".into(),
        destination: "10.244.2.10:80".into(),
        protocol: "tcp".into(),
        ip_id: Some(4_711),
        tcp_seq: Some(1_448),
        payload_length: 1_448,
        ip_length: 1_500,
        ..Default::default()
    }];
    let mut report = report(Verdict::Lost, vec![path, clean_path("10.244.2.10:80", 7)]);
    report.filter = "host 10.244.2.10".into();
    let options = Options { wide: true, ..Options::default() };
    insta::assert_snapshot!(text(&report, options), @r"
    capture c-7f3k  flannel-mtu  2026-03-01T14:03:20.000Z – 2026-03-01T14:03:30.000Z  3 of 3 nodes  clock error ≤ 0.4 ms
    filter host 10.244.2.10

    10.244.1.10:41822 → 10.244.2.10:80  tcp  vxlan vni 1                     lost 37 of 1,000 segments
      #  node    interface   dir  sees         segments   lost after     p50 delay  p99 delay
      1  node-a  veth1a2b    in   inner           1,000        –                 –          –
      2  node-a  eth0        out  vxlan 1         1,000       37 ◀ 3.7 %     11 µs      33 µs
      3  node-b  eth0        in   vxlan 1           963        –            180 µs     540 µs
      4  node-b  flannel.1   in   inner             963        –             12 µs      36 µs
      5  node-b  cni0        out  inner             963        –              7 µs      21 µs
      6  node-b  veth3c4d    out  inner             963        –              5 µs      15 µs
    LOST  node-a eth0 → node-b eth0   37 segments   confidence 99.9 %
      all 37 are 1,500 bytes or longer; every shorter one arrived          pattern: size
      likely cause: MTU black hole on the underlay (node-a eth0 1500, largest that arrived 1,450)
      14:03:21.123456Z  10.244.1.10:41822 → 10.244.2.10:80  tcp  1500 bytes  ip-id 4711  seq 1448 len 1448

    10.244.2.10:80 → 10.244.1.10:41822  tcp  vxlan vni 1                     7 of 7 segments arrived
      #  node    interface   dir  sees         segments   lost after     p50 delay  p99 delay
      1  node-b  eth0        out  vxlan 1             7        –                 –          –

    observed with no capture loss at any of 8 points
    ");
}

#[test]
fn loss_below_the_threshold_is_told() {
    let shown = shown(&report(Verdict::Delivered, vec![lossy_path()]));
    assert!(
        shown.contains("\nlost 37 segments, below the threshold\n") && !shown.contains("nothing lost"),
        "{shown}"
    );
}

#[test]
fn a_report_that_compares_nothing_leaves_the_why_to_the_notes() {
    let mut report = report(Verdict::Inconclusive, Vec::new());
    report.notes = vec!["no packet matched the filter".into()];
    assert!(
        shown(&report).ends_with("\n\ninconclusive\nno packet matched the filter\n"),
        "{}",
        shown(&report)
    );
}

#[test]
fn names_from_the_network_cannot_steer_the_terminal() {
    let mut path = lossy_path();
    path.hops[0].interface = "veth\u{1b}[2J".into();
    path.source = "a\u{9b}31m\nLOST".into();
    let mut report = report(Verdict::Lost, vec![path]);
    report.notes = vec!["\u{202e}note".into()];
    let shown = shown(&report);
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown}");
    assert!(shown.contains("veth\\u{1b}[2J") && shown.contains("\\nLOST →"), "{shown}");
}

#[test]
fn colour_marks_the_loss_and_leaves_the_columns_alone() {
    let report = report(Verdict::Lost, vec![lossy_path()]);
    let style = lastseen_ctl::output::style::Style { colour: true };
    let coloured = text(&report, Options { wide: false, style });
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    for (i, part) in coloured.split('\u{1b}').enumerate() {
        plain += if i == 0 { part } else { part.split_once('m').unwrap().1 };
    }
    assert_eq!(plain, shown(&report));
}
