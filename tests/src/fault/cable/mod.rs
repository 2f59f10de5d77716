//! A box in the cable between the underlay switch and the receiver's `eth0`: a program that takes every frame out and
//! puts it in again on the other side, late, twice, out of order or not at all. What it did is in its own count.
//!
//! It carries frames, not super-frames: the scenario cuts these in front of every `eth0`.

mod lane;
mod mischief;
mod retransmission;
mod tunnelled;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};

use self::lane::Lane;
pub use self::mischief::{Checksum, Mischief};
use super::{Cast, Injected, offload};
use crate::lab::netns::Netns;
use crate::lab::packet_socket::PacketSocket;

/// The box's side of the cable's new piece, and the switch's.
const PIECE: [&str; 2] = ["box0", "box1"];

/// What both directions of the box share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Frames struck.
    struck: AtomicU64,
}

/// Puts the box into the receiver's cable.
pub(super) fn inject(cast: Cast<'_>, mischief: Mischief) -> Result<Injected<'_>> {
    let (switch, port) = (&cast.lab.switch, cast.receiver.plan.name.as_str());
    let [near, far] = PIECE;
    let is_summed = matches!(mischief, Mischief::Corrupt { checksum: Checksum::Software, .. });
    if is_summed {
        offload::checksums(&cast.sender.pod, true)?;
    }
    switch.ip(&format!(
        "link add {near} type veth peer name {far}\n\
         link set {near} up\n\
         link set {port} nomaster\n\
         link set {far} master br0 up\n"
    ))?;
    PIECE.iter().try_for_each(|interface| switch.wait_until_up(interface))?;
    let there = [near, port];
    let back = [port, near];
    let shared = Arc::new(Shared::default());
    let threads = [
        start(switch, there, mischief.on_the_way_there(cast), &shared)?,
        start(switch, back, mischief.on_the_way_back(cast), &shared)?,
    ];
    // Where the receiver is must be learned anew.
    cast.lab.warm_up().context("through the box")?;
    let before = shared.struck.load(Ordering::Relaxed);
    let count = Arc::clone(&shared);
    let undo = move || {
        shared.stop.store(true, Ordering::Relaxed);
        let ended = threads.map(|thread| thread.join().map_err(|_| anyhow!("the box panicked")));
        switch.ip(&format!("link del {near}\nlink set {port} master br0\n"))?;
        if is_summed {
            offload::checksums(&cast.sender.pod, false)?;
        }
        ended.into_iter().try_for_each(|ended| ended?)?;
        cast.lab.warm_up().context("without the box")
    };
    Ok(Injected::new(move || Ok(count.struck.load(Ordering::Relaxed) - before), undo))
}

fn start(
    switch: &Netns,
    [from, to]: [&str; 2],
    rule: Box<dyn mischief::Rule>,
    shared: &Arc<Shared>,
) -> Result<thread::JoinHandle<Result<()>>> {
    let lane = Lane {
        from: PacketSocket::open(switch, from)?,
        to: PacketSocket::open(switch, to)?,
        rule,
        shared: Arc::clone(shared),
    };
    Ok(thread::spawn(move || lane.run()))
}
