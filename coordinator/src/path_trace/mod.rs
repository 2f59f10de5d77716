//! Marked packets from one place to a target, followed by a capture of the same time: a capture, a probe, and what the
//! two say together.

mod assemble;
mod plan;
mod sizes;

use lastseen_proto::{convert, v1};
use prost::Message as _;
use tokio::time::sleep;

use self::assemble::{Evidence, assemble};
use self::plan::Plan;
pub use self::plan::{Request, Sizes};
use crate::errand::{Errand, LOOK};
use crate::error::Error;
use crate::limits;
use crate::model::Capture;
use crate::probes::model::Source;

/// Flow records that are looked at for their TTL: a path has a few points, and a filter lets little else through.
const FLOWS: u32 = 10_000;
/// Lost packets that are looked at for their size.
const LOST: u32 = 10_000;

/// A trace under way.
pub struct Trace(pub Errand);

impl Trace {
    /// From beginning to end.
    pub async fn run(self, request: Request) -> Result<v1::PathTrace, Error> {
        request.check()?;
        let source = self.source(&request).await?;
        let (now, nodes) = self.0.nodes();
        let address = match request.address() {
            Some(address) => address,
            None => self.0.look_up(&source, &request.host(), request.family).await?,
        };
        let plan = Plan::new(&request, &source, address, &nodes, now, self.0.request())?;
        self.0.say("arming the capture");
        let capture = self.0.capture(plan.capture.clone()).await?;
        self.0.say("sending");
        let start = capture.window.map(|window| window.start_nanos + plan::AFTER_START_NANOS);
        let sent = self.0.probe(plan.probe.clone(), vec![source.clone()], start, "probe").await?;
        self.0.show(&sent.id);
        let (result, failure) = self.0.result(&sent.id).await?;
        let Some(result) = result else {
            // Nobody waits for what was not sent.
            self.0.stop(&capture.id).await?;
            let node = &source.node;
            return Err(Error::Precondition(format!("from: what {node} sent is not known: {failure}")));
        };
        self.0.say("waiting for what is late");
        let capture = self.0.ended(&capture.id).await?;
        let evidence = self.evidence(&capture).await?;
        Ok(assemble(&plan, &capture, &sent, &source, result, &evidence))
    }

    /// The source, once its agent is here. One that was here a moment ago may be on its way from another coordinator.
    async fn source(&self, request: &Request) -> Result<Source, Error> {
        let deadline = self.0.means.clock.now() + limits::MOVE_NANOS;
        loop {
            let (now, nodes) = self.0.nodes();
            let source = request.source(&nodes)?;
            let node = nodes.iter().find(|node| node.record.name == source.node);
            let Some(away) = node.filter(|node| !node.is_ready) else { return Ok(source) };
            let is_moving = now - away.record.last_seen_nanos < 2 * limits::MOVE_NANOS;
            if !is_moving || now >= deadline {
                let reason =
                    format!("from: {} is not connected; `ctl list-nodes` says since when", source.node);
                return Err(Error::Precondition(reason));
            }
            self.0.say("waiting for the source's agent");
            sleep(LOOK).await;
        }
    }

    async fn evidence(&self, capture: &Capture) -> Result<Evidence, Error> {
        let store = &self.0.means.store;
        let report = store
            .report(&capture.id)
            .await?
            .ok_or_else(|| Error::Internal(format!("capture {} has ended and has no report", capture.id)))?;
        let unreadable =
            |error| Error::Internal(format!("what was stored of {} cannot be read: {error}", capture.id));
        let flows = store.flows(&capture.id, 0, FLOWS).await?;
        let lost = store.lost(&capture.id, 0, LOST).await?;
        let topologies = store.topologies(&capture.id).await?;
        let topologies = topologies
            .into_iter()
            .map(|(node, topology)| Ok((node, v1::NodeTopology::decode(topology).map_err(unreadable)?)));
        Ok(Evidence {
            report: v1::DiffReport::decode(report.as_slice()).map_err(unreadable)?,
            flows: flows.into_iter().map(convert::flow_record).collect(),
            lost: lost
                .iter()
                .map(|packet| v1::LostPacket::decode(packet.as_slice()).map_err(unreadable))
                .collect::<Result<_, _>>()?,
            topologies: topologies.collect::<Result<_, Error>>()?,
        })
    }
}
