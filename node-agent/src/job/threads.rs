//! The threads of a capture.

use std::sync::Arc;
use std::{io, thread};

use lastseen_packet::observation::OverlayKind;
use lastseen_packet::{DecodeConfig, IdentityKey, TunnelPort};
use lastseen_proto::v1;
use tokio::sync::mpsc::{self, Receiver};

use super::spec::Spec;
use crate::capture::lens::{Lens, OwnEndpoints};
use crate::capture::window::Window;
use crate::capture::worker::{self, Point};
use crate::conntrack::{Tracker, Translated};
use crate::filter::Filter;
use crate::interfaces::Snapshot;
use crate::publish::sink::BatchSink;

/// Notes that wait to be read.
const NOTES: usize = 64;

/// Deals the points out to as many threads as there are processors.
pub(super) fn start(
    readers: Vec<Point<BatchSink>>,
    spec: &Spec,
    snapshot: &Snapshot,
    window: &Arc<Window>,
    tracker: Option<&Tracker>,
) -> io::Result<Receiver<String>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(readers.len());
    let mut hands: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, reader) in readers.into_iter().enumerate() {
        hands[index % threads].push(reader);
    }
    let (news, notes) = mpsc::channel(NOTES);
    let config = decode_config(snapshot);
    for hand in hands {
        let (spec, config, window, news) = (spec.clone(), config.clone(), window.clone(), news.clone());
        let translated = tracker.map(|tracker| Translated::new(tracker.clone(), spec.dictionary_key));
        thread::Builder::new().name(format!("capture {}", spec.capture)).spawn(move || {
            // Compiled once more, because a compiled filter stays in its thread.
            match Filter::compile(&spec.filter) {
                Ok(filter) => {
                    let own = OwnEndpoints::new(spec.own_endpoints);
                    let lens = Lens::new(config, IdentityKey(spec.identity_key), filter, own);
                    let lens = lens.following(translated).selecting(spec.sampling);
                    worker::run(hand, lens, &window, &news);
                }
                Err(error) => drop(news.try_send(error.to_string())),
            }
        })?;
    }
    Ok(notes)
}

/// The usual tunnel ports and those of the node's own devices.
fn decode_config(snapshot: &Snapshot) -> DecodeConfig {
    let mut config = DecodeConfig::default();
    for device in snapshot.links.iter().filter_map(|link| link.interface.overlay.as_ref()) {
        let kind = match device.kind() {
            v1::OverlayKind::Vxlan => OverlayKind::Vxlan,
            v1::OverlayKind::VxlanGpe => OverlayKind::VxlanGpe,
            v1::OverlayKind::Geneve => OverlayKind::Geneve,
            _ => continue,
        };
        if let Ok(port @ 1..) = u16::try_from(device.port)
            && !config.set(TunnelPort { port, kind })
        {
            tracing::warn!(port, "more tunnel ports than can be decoded; this one's packets stay opaque");
        }
    }
    config
}
