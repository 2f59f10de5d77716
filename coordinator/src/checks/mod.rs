//! The usual list of things to look at when packets vanish, from several places at once: probes, a capture that watches the
//! tunnels, and what they say of each thing: well, not well, or not to be told.

mod judge;
mod plan;
mod request;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use lastseen_proto::target::Host;
use lastseen_proto::v1::CheckItem;
use lastseen_proto::{convert, v1};

use self::judge::tunnels::Frames;
use self::judge::{Found, judge};
use self::plan::{Fleet, Plan, Task, Tunnels};
pub use self::request::{ApiServer, Request, What};
use crate::blocking::blocking;
use crate::errand::{Errand, port};
use crate::error::Error;
use crate::model::Capture;
use crate::probes::place;
use crate::wire::probe::message;

/// Bytes of reports that are read of one probe.
const REPORT_BYTES: usize = 64 << 20;
/// Flow records that are read at once, and in all.
const FLOWS: u32 = 10_000;
const FLOWS_MOST: usize = 200_000;

/// A check under way.
pub struct Check(pub Errand);

impl Check {
    /// From beginning to end.
    pub async fn run(self, request: Request) -> Result<v1::CheckReport, Error> {
        let (now_nanos, nodes) = self.0.nodes();
        let nodes = Arc::new(nodes);
        let fleet = Fleet { nodes: nodes.clone(), now_nanos, port: port(self.0.request()) };
        let plan = match request.what.clone() {
            What::Hosts { all_nodes, sources } => {
                blocking(move || Plan::hosts(&request, all_nodes, sources, &fleet)).await??
            }
            What::Path { from, to, family } => {
                let from = place("from", from, &nodes)?;
                let address = match &to.host {
                    Host::Address(address) => address.to_canonical(),
                    Host::Name(name) => self.0.look_up(&from, name, family).await?,
                };
                blocking(move || Plan::path(&request, &from, &to, address, &fleet)).await??
            }
        };
        self.0.say("probing");
        let last = plan.tasks.partition_point(|task| !task.is_last());
        let (first, last) = plan.tasks.split_at(last);
        let (mut found, frames) = tokio::join!(self.all(first), self.frames(plan.tunnels.as_ref()));
        self.0.say("reading tables");
        found.extend(self.all(last).await);
        blocking(move || judge(&plan, &found, frames.as_ref(), &nodes)).await
    }

    async fn all(&self, tasks: &[Task]) -> Vec<Found> {
        join_all(tasks.iter().map(|task| self.found(task, None))).await
    }

    /// What a probe found, or why there is none: the others go on.
    async fn found(&self, task: &Task, start: Option<i64>) -> Found {
        let found = async {
            let begun = self.0.probe(task.spec.clone(), task.sources.clone(), start, &task.name).await?;
            let probe = self.0.done(&begun.id).await?;
            let reports = self.0.means.store.probe_reports(&probe.id, 1, REPORT_BYTES).await?;
            message(&probe, &reports, self.0.means.clock.now())
        };
        found.await.map_err(|error: Error| error.to_string())
    }

    /// Datagrams through the tunnels, and what a capture saw of them.
    async fn frames(&self, tunnels: Option<&Tunnels>) -> Option<Frames> {
        let Tunnels { capture, datagrams, port } = tunnels?;
        let members = datagrams.spec.mesh.as_ref().map(|mesh| mesh.members.as_slice()).unwrap_or_default();
        let members: BTreeMap<IpAddr, String> =
            members.iter().filter_map(|member| Some((member.address?, member.source.node.clone()))).collect();
        let begun = self.0.capture(capture.clone()).await;
        let window = begun.as_ref().ok().and_then(|capture| capture.window);
        let start = window.map(|window| window.start_nanos + plan::AFTER_START_NANOS);
        let found = self.found(datagrams, start).await;
        let seen = async {
            let capture = self.0.ended(&begun?.id).await?;
            let flows = self.flows(&capture).await?;
            Ok((capture, flows))
        };
        let seen = seen.await.map_err(|error: Error| error.to_string());
        Some(Frames::new(members, *port, found, seen))
    }

    async fn flows(&self, capture: &Capture) -> Result<Vec<v1::FlowRecord>, Error> {
        let mut all = Vec::new();
        loop {
            let flows = self.0.means.store.flows(&capture.id, all.len() as u64, FLOWS).await?;
            let is_last = flows.len() < FLOWS as usize;
            all.extend(flows.into_iter().map(convert::flow_record));
            if is_last || all.len() >= FLOWS_MOST {
                return Ok(all);
            }
        }
    }
}

/// What is looked at, in words.
fn words(item: CheckItem) -> &'static str {
    match item {
        CheckItem::CheckGateway => "gateway",
        CheckItem::CheckNeighbors => "neighbours",
        CheckItem::CheckIcmp => "ICMP",
        CheckItem::CheckTcp => "TCP",
        CheckItem::CheckDns => "DNS",
        CheckItem::CheckEndpoint => "endpoint",
        CheckItem::CheckApiServer => "API server",
        CheckItem::CheckPathMtu => "path MTU",
        CheckItem::CheckOverlayMtu => "path MTU of the tunnel",
        CheckItem::CheckOverlay => "tunnel",
        CheckItem::CheckConntrack => "connections",
        CheckItem::CheckForwarding => "forwarding",
        CheckItem::CheckRpFilter => "reverse path filter",
        CheckItem::CheckAgent => "agent",
        CheckItem::Unspecified => "",
    }
}
