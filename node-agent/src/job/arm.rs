//! Getting ready: everything that can fail is done before the window is known.

use std::sync::Arc;

use lastseen_packet::LinkType;
use lastseen_runtime::telemetry::TRACE;
use tokio::sync::mpsc::Receiver;
use tracing::{Span, info_span};

use super::Context;
use super::spec::Spec;
use super::status::{PointId, PointStatus, Totals};
use super::threads;
use crate::capture::backend::{Direction, Settings, Source, SourceError, Target};
use crate::capture::budget::Reservation;
use crate::capture::window::Window;
use crate::capture::worker::Point;
use crate::clock;
use crate::conntrack::Tracker;
use crate::filter::Filter;
use crate::interfaces::select::{Selection, select};
use crate::interfaces::{Link, Snapshot};
use crate::publish::sink::BatchSink;

/// A capture whose workers read and wait for the window.
pub(super) struct Armed {
    pub(super) window: Arc<Window>,
    /// Ends when every worker has.
    pub(super) notes: Receiver<String>,
    pub(super) coverage: Vec<String>,
    /// Let go when every worker has ended.
    pub(super) rings: Option<Reservation>,
    /// What the node translates; absent where connection tracking cannot be read.
    pub(super) tracker: Option<Tracker>,
    points: Vec<(PointId, Arc<Totals>)>,
}

impl Armed {
    pub(super) fn points(&self) -> Vec<PointStatus> {
        let status = |(point, totals): &(PointId, Arc<Totals>)| {
            let (counters, batches) = totals.read();
            PointStatus { point: point.clone(), counters, batches }
        };
        self.points.iter().map(status).collect()
    }
}

/// Validates the job, opens its handles and starts its workers. An error is one line for the user.
pub(super) async fn arm(context: &Context, spec: &Spec) -> Result<Armed, String> {
    let snapshot = context.network.refresh().await.map_err(|e| format!("node {}: {e}", context.node))?;
    let (context, spec) = (context.clone(), spec.clone());
    // Allocating rings and compiling filters take their time.
    let span = Span::current();
    let armed = tokio::task::spawn_blocking(move || span.in_scope(|| open_all(&context, &spec, &snapshot)));
    armed.await.map_err(|_| "the agent failed while arming; see its log".to_owned())?
}

fn open_all(context: &Context, spec: &Spec, snapshot: &Snapshot) -> Result<Armed, String> {
    let filter = Filter::compile(&spec.filter).map_err(|e| e.to_string())?;
    let mut selection = select(snapshot, &spec.interfaces, &context.node)?;
    tell_off_path(spec, &selection);
    // Before the rings, so that no packet in them belongs to a connection that nobody told of.
    let tracker = track(spec, &filter, &mut selection.coverage);
    let mut rings = reserve(context, spec, 2 * selection.links.len())?;
    let settings = Settings { snap_length: spec.snap_length, ring_bytes: rings.ring_bytes() };
    let opening = info_span!(target: TRACE, "open", interfaces = selection.links.len());
    let opened = opening.in_scope(|| open_links(context, spec, &mut selection, settings))?;
    rings.keep(opened.len());
    let (points, readers): (_, Vec<_>) =
        opened.into_iter().map(|(point, totals, reader)| ((point, totals), reader)).unzip();
    let window = Arc::new(Window::new(spec.max_packets, spec.max_bytes));
    let notes = threads::start(readers, spec, snapshot, &window, tracker.as_ref()).map_err(|e| {
        // Those that did start would wait for ever.
        window.abandon();
        format!("node {}: cannot start a capture thread: {e}", context.node)
    })?;
    Ok(Armed { window, notes, coverage: selection.coverage, rings: Some(rings), tracker, points })
}

fn tell_off_path(spec: &Spec, selection: &Selection) {
    if !selection.off_path.is_empty() {
        let interfaces = selection.off_path.join(", ");
        tracing::info!(
            capture = spec.capture,
            interfaces,
            "not captured: no tunnel and no route with a gateway leaves by them; name them if they matter"
        );
    }
}

/// The points of every interface. One that was not named may fail, which its coverage then says, unless all do.
fn open_links(
    context: &Context,
    spec: &Spec,
    selection: &mut Selection,
    settings: Settings,
) -> Result<Vec<Opened>, String> {
    let mut all = Vec::new();
    for link in &selection.links {
        match open_points(context, spec, link, settings) {
            Ok(opened) => {
                can_select(context, spec, &opened)?;
                all.extend(opened);
            }
            Err(error) if spec.is_auto() => selection.coverage.push(format!("not captured: {error}")),
            Err(error) => return Err(format!("node {}: {error}", context.node)),
        }
    }
    if all.is_empty() {
        return Err(format!("node {}: {}", context.node, selection.coverage.join("; ")));
    }
    Ok(all)
}

/// Follows the node's translations. Without, packets are still recognised by what does not change; a filter does not
/// follow them.
fn track(spec: &Spec, filter: &Filter, coverage: &mut Vec<String>) -> Option<Tracker> {
    let error = match Tracker::open() {
        Ok(tracker) => return Some(tracker),
        Err(error) => error,
    };
    tracing::info!(capture = spec.capture, %error, "connection tracking cannot be read");
    if !filter.is_empty() {
        coverage.push(format!(
            "connection tracking cannot be read ({error}): the filter misses packets that this node translates"
        ));
    }
    None
}

/// Ring memory for `count` points, smaller than usual if the node's budget is nearly spent.
fn reserve(context: &Context, spec: &Spec, count: usize) -> Result<Reservation, String> {
    let rings = context.rings.reserve(count, context.ring_bytes);
    let rings = rings.map_err(|e| format!("node {}: {e}", context.node))?;
    if rings.ring_bytes() < context.ring_bytes {
        let (bytes, wanted) = (rings.ring_bytes(), context.ring_bytes);
        tracing::warn!(
            capture = spec.capture,
            bytes,
            wanted,
            "rings are smaller to keep to --ring-max-bytes"
        );
    }
    Ok(rings)
}

type Opened = (PointId, Arc<Totals>, Point<BatchSink>);

/// Which segments a super-packet stands for, and so which of them to select, only the segment size tells.
fn can_select(context: &Context, spec: &Spec, opened: &[Opened]) -> Result<(), String> {
    let unable = opened.iter().map(|(point, ..)| point).find(|point| !point.gso_known);
    match unable.filter(|_| !spec.sampling.is_all()) {
        None => Ok(()),
        Some(PointId { interface, .. }) => Err(format!(
            "node {}: {interface}: cannot sample: libpcap does not tell the segment size of super-packets; leave out \
             --sample, or start the agent with --backend af_packet",
            context.node
        )),
    }
}

/// The two points of an interface.
fn open_points(
    context: &Context,
    spec: &Spec,
    link: &Link,
    settings: Settings,
) -> Result<Vec<Opened>, String> {
    let open = |(direction, source): Handle| {
        let point = point_id(link, direction, source.gso_known());
        let totals = Arc::new(Totals::default());
        let sink = BatchSink::new(context, &spec.capture, &point, totals.clone())?;
        Ok((point, totals, Point::new(source, sink, spec.dictionary_key)))
    };
    open_both(context, link, settings).map_err(|e| e.to_string())?.into_iter().map(open).collect()
}

type Handle = (Direction, Box<dyn Source>);

fn open_both(context: &Context, link: &Link, settings: Settings) -> Result<Vec<Handle>, SourceError> {
    let open = |direction| {
        let target = Target {
            name: link.interface.name.clone(),
            index: link.interface.index,
            mtu: link.interface.mtu,
            link: link.frames.unwrap_or(LinkType::Ethernet),
            direction,
        };
        let source = context.network.host().open(context.backend, &target, settings)?;
        Ok((direction, clock::stamp(source)))
    };
    [Direction::In, Direction::Out].into_iter().map(open).collect()
}

fn point_id(link: &Link, direction: Direction, gso_known: bool) -> PointId {
    let interface = &link.interface;
    PointId {
        interface: interface.name.clone(),
        index: interface.index,
        direction,
        kind: interface.kind(),
        mtu: interface.mtu,
        gso_known,
    }
}
