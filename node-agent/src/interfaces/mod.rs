//! The node's network as rtnetlink tells it: interfaces and what they are, routes, neighbours, forwarding entries.

mod classify;
pub(crate) mod forwarding;
pub(crate) mod links;
pub(crate) mod overlay;
mod routes;
pub mod select;
mod underlay;
pub mod watch;

use std::fmt::Display;

use futures_util::{Stream, TryStreamExt};
use lastseen_packet::LinkType;
use lastseen_proto::v1;
use rtnetlink::Handle;

use crate::clock;

/// Most entries of one kind that a snapshot holds: a node with a full routing table must not fill a message.
const MAX_ENTRIES: usize = 10_000;

/// rtnetlink did not answer.
#[derive(Debug, thiserror::Error)]
#[error("rtnetlink: cannot list {what}: {reason}")]
pub struct NetlinkError {
    what: &'static str,
    reason: String,
}

impl NetlinkError {
    fn new(what: &'static str, reason: &impl Display) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

/// An interface of the agent's network namespace.
#[derive(Clone, Debug)]
pub struct Link {
    /// As reported.
    pub interface: v1::Interface,
    /// What its frames start with, absent if frames of that kind are not decoded.
    pub frames: Option<LinkType>,
}

/// The network at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Interfaces by index.
    pub links: Vec<Link>,
    /// The same and the rest, as reported.
    pub topology: v1::NodeTopology,
}

/// Asks the kernel for everything. The namespace is the one of the calling thread.
pub async fn snapshot() -> Result<Snapshot, NetlinkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|e| NetlinkError::new("anything", &e))?;
    let connection = tokio::spawn(connection);
    let result = ask(&handle).await;
    connection.abort();
    result
}

async fn ask(handle: &Handle) -> Result<Snapshot, NetlinkError> {
    let mut links = links::list(handle).await?;
    let routes = routes::list(handle).await?;
    classify::refine(&mut links);
    let topology = v1::NodeTopology {
        interfaces: links.iter().map(|link| link.interface.clone()).collect(),
        routes,
        neighbors: forwarding::neighbors(handle).await?,
        forwarding: forwarding::entries(handle).await?,
        taken_unix_nanos: clock::realtime_nanos(),
    };
    Ok(Snapshot { links, topology })
}

/// Collects a dump, up to [`MAX_ENTRIES`] results of `convert`.
async fn collect<M, T>(
    what: &'static str,
    dump: impl Stream<Item = Result<M, rtnetlink::Error>>,
    mut convert: impl FnMut(M) -> Vec<T>,
) -> Result<Vec<T>, NetlinkError> {
    let mut dump = std::pin::pin!(dump);
    let mut entries = Vec::new();
    while let Some(message) = dump.try_next().await.map_err(|e| NetlinkError::new(what, &e))? {
        let room = MAX_ENTRIES - entries.len();
        let more = convert(message);
        if more.len() > room {
            tracing::warn!(what, limit = MAX_ENTRIES, "more entries than are reported");
        }
        entries.extend(more.into_iter().take(room));
        if entries.len() == MAX_ENTRIES {
            break;
        }
    }
    Ok(entries)
}

fn mac_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
