//! The display that moves: what it shows at one moment.

use jiff::{SignedDuration, Timestamp};
use lastseen_proto::v1::{Capture, CaptureNode, CaptureState};

use crate::output::{escape, names, units};

/// More nodes than this do not fit beside other output.
const MOST_NODES: usize = 16;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Milliseconds of the window that have passed.
    pub(super) position: u64,
    /// Length of the window in milliseconds, at least 1.
    pub(super) length: u64,
    /// Beside and below the bar.
    pub(super) message: String,
}

/// The frame at `now`, by this machine's clock; the window is in the coordinator's, which is close enough to look at.
pub(super) fn frame(capture: &Capture, now: Timestamp) -> Frame {
    let (position, length, left) = progress(capture, now);
    let mut message = format!("{}  {left}", names::capture_state(capture.state));
    let width = capture.nodes.iter().map(|node| node.node.chars().count()).max().unwrap_or(0);
    for node in capture.nodes.iter().take(MOST_NODES) {
        message.push('\n');
        message += &line(node, width);
    }
    if let Some(more) = capture.nodes.len().checked_sub(MOST_NODES).filter(|more| *more > 0) {
        message += &format!("\n  and {more} more nodes");
    }
    Frame { position, length, message }
}

fn line(node: &CaptureNode, width: usize) -> String {
    let drops = node.kernel_drops + node.agent_drops;
    let mut line = format!(
        "  {:<width$}  {:<9}  {:>11} packets  {:>9} drops",
        escape::line(&node.node),
        names::capture_state(node.state),
        units::count(node.packets),
        units::count(drops),
    );
    if !node.reason.is_empty() {
        line += &format!("  {}", escape::line(&node.reason));
    }
    line
}

/// Position and length of the bar, and how long it still takes in words.
fn progress(capture: &Capture, now: Timestamp) -> (u64, u64, String) {
    let start = units::timestamp(capture.window_start.as_ref());
    let end = units::timestamp(capture.window_end.as_ref());
    let (Some(start), Some(end)) = (start, end) else { return (0, 1, String::new()) };
    let length = millis(end.duration_since(start)).max(1);
    if capture.state != CaptureState::Running as i32 {
        return (length, length, String::new());
    }
    let position = millis(now.duration_since(start)).min(length);
    let left = if now < start {
        format!("starts in {} s", millis(start.duration_since(now)).div_ceil(1_000))
    } else {
        format!("{} s left", (length - position).div_ceil(1_000))
    };
    (position, length, left)
}

fn millis(duration: SignedDuration) -> u64 {
    duration.as_millis().try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp as ProtoTimestamp;

    use super::*;

    fn capture(state: CaptureState) -> Capture {
        let at = |seconds| Some(ProtoTimestamp { seconds, nanos: 0 });
        Capture { state: state as i32, window_start: at(100), window_end: at(130), ..Default::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0).unwrap()
    }

    #[test]
    fn the_bar_follows_the_window() {
        let running = capture(CaptureState::Running);
        let frame_of = |seconds| frame(&running, at(seconds));
        assert_eq!((frame_of(107).position, frame_of(107).message.as_str()), (7_000, "running  23 s left"));
        assert_eq!((frame_of(98).position, frame_of(98).message.as_str()), (0, "running  starts in 2 s"));
        assert_eq!((frame_of(900).position, frame_of(900).length), (30_000, 30_000));
        assert_eq!(frame(&capture(CaptureState::Draining), at(107)).position, 30_000);
        let armed = Capture { state: CaptureState::Arming as i32, ..Default::default() };
        assert_eq!((frame(&armed, at(0)).position, frame(&armed, at(0)).length), (0, 1));
    }

    #[test]
    fn many_nodes_are_summed_up() {
        let mut capture = capture(CaptureState::Running);
        let node = |i| CaptureNode { node: format!("node-{i}"), packets: 1_234, ..Default::default() };
        capture.nodes = (0..20).map(node).collect();
        let message = frame(&capture, at(100)).message;
        assert_eq!(message.lines().count(), 1 + MOST_NODES + 1);
        assert!(message.ends_with("and 4 more nodes") && message.contains("1,234 packets"), "{message}");
    }
}
