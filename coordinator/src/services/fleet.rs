//! `FleetService`: the nodes.

use lastseen_proto::v1;
use lastseen_proto::v1::fleet_service_server::FleetService;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Context, Responses};
use crate::error::Error;
use crate::fleet::NodeView;
use crate::jobs::known;
use crate::wire;

/// `FleetService`.
pub struct FleetApi(pub Context);

#[tonic::async_trait]
impl FleetService for FleetApi {
    type WatchNodesStream = Responses<v1::WatchNodesResponse>;

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let nodes = self.0.fleet.nodes(self.0.clock.now());
        let nodes = nodes.iter().map(|view| shown(&self.0, view, false)).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes, notes: self.0.guard.notes() }))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        let name = request.into_inner().name;
        let now = self.0.clock.now();
        let Some(view) = self.0.fleet.node(&name, now) else {
            let known = known(&self.0.fleet.nodes(now));
            return Err(Error::NoNode { name: wire::bounded(name), known }.into());
        };
        Ok(Response::new(v1::GetNodeResponse { node: Some(shown(&self.0, &view, true)) }))
    }

    async fn check_storage(
        &self,
        _request: Request<v1::CheckStorageRequest>,
    ) -> Result<Response<v1::CheckStorageResponse>, Status> {
        Ok(Response::new(wire::storage::message(self.0.storage.examine().await?)))
    }

    async fn watch_nodes(
        &self,
        _request: Request<v1::WatchNodesRequest>,
    ) -> Result<Response<Self::WatchNodesStream>, Status> {
        let (sender, stream) = mpsc::channel(1);
        let context = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = watch(&context, &sender) => {}
                () = sender.closed() => {}
                () = context.stopping.cancelled() => {
                    let _ = sender.try_send(Err(Error::Stopping.into()));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A node with what its connection tells of it.
fn shown(context: &Context, view: &NodeView, with_topology: bool) -> v1::Node {
    let mut node = wire::node::message(view, with_topology);
    let (end, note) = context.guard.end_of(&node.name);
    node.certificate_not_after = end.map(prost_types::Timestamp::from);
    node.notes.extend(note);
    node
}

/// Every node, then those that change; every node again after falling behind.
async fn watch(context: &Context, sender: &mpsc::Sender<Result<v1::WatchNodesResponse, Status>>) {
    let mut changes = context.fleet.changes();
    let mut due: Vec<_> = context.fleet.nodes(context.clock.now());
    loop {
        for view in due {
            let node = Some(shown(context, &view, false));
            if sender.send(Ok(v1::WatchNodesResponse { node })).await.is_err() {
                return;
            }
        }
        due = match changes.recv().await {
            Ok(name) => context.fleet.node(&name, context.clock.now()).into_iter().collect(),
            Err(RecvError::Lagged(_)) => context.fleet.nodes(context.clock.now()),
            Err(RecvError::Closed) => return,
        };
    }
}
