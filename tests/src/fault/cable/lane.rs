//! One direction of the box: frames wait in a queue until they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Shared;
use super::mischief::Rule;
use crate::lab::packet_socket::{LONGEST, OFFLOAD_HEADER, PacketSocket};

/// Longest wait before it looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most frames that wait: beyond it something is wrong with the box.
const MOST_WAITING: usize = 1 << 17;

/// From one socket to another.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) from: PacketSocket,
    pub(super) to: PacketSocket,
    pub(super) rule: Box<dyn Rule>,
    pub(super) shared: Arc<Shared>,
}

/// A frame in the box: when it is due, and its number so that equals keep their order.
type Waiting = Reverse<(Instant, u64, Vec<u8>)>;

impl Lane {
    /// Carries frames until it is told to stop. Those that wait then are not sent.
    pub(super) fn run(mut self) -> Result<()> {
        let mut queue: BinaryHeap<Waiting> = BinaryHeap::new();
        let mut buffer = vec![0; LONGEST];
        let mut number = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait(queue.peek())?;
            while let Some(frame) = self.from.receive(&mut buffer)? {
                let now = Instant::now();
                if frame[1] != 0 {
                    bail!("a super-frame came to the box: cut them with `segmentation = \"software\"`");
                }
                let decision = self.rule.decide(&frame[OFFLOAD_HEADER..], now);
                self.shared.struck.fetch_add(decision.struck, Ordering::Relaxed);
                let mut frame = frame.to_vec();
                if let Some(last) = frame.last_mut().filter(|_| decision.is_corrupted) {
                    *last ^= 0xff;
                }
                for due in decision.due.into_iter().flatten() {
                    queue.push(Reverse((due, number, frame.clone())));
                    number += 1;
                }
                self.send_due(&mut queue)?;
            }
            if queue.len() > MOST_WAITING {
                bail!("{} frames wait in the box", queue.len());
            }
            self.send_due(&mut queue)?;
        }
        match self.from.dropped()? {
            0 => Ok(()),
            dropped => bail!("the box itself lost {dropped} frames: this machine is too busy to judge"),
        }
    }

    fn send_due(&self, queue: &mut BinaryHeap<Waiting>) -> Result<()> {
        let now = Instant::now();
        while queue.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, _, frame))) = queue.pop() {
                self.to.send(&frame)?;
            }
        }
        Ok(())
    }

    fn wait(&self, next: Option<&Waiting>) -> Result<()> {
        let due = next.map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let patience = due.map_or(PATIENCE, |due| due.min(PATIENCE));
        let mut sockets = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut sockets, Some(TimeSpec::from_duration(patience)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
