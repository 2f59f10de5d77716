//! `AgentService`: what node agents call.

use lastseen_proto::v1;
use lastseen_proto::v1::agent_service_server::AgentService;
use tonic::{Request, Response, Status, Streaming};

use super::session::Ends;
use super::{Context, Responses, publish, session};
use crate::access::{Caller, caller};
use crate::error::Error;
use crate::limits;
use crate::quota::{Place, Quota};

/// `AgentService`.
pub struct AgentApi(pub Context);

#[tonic::async_trait]
impl AgentService for AgentApi {
    type ConnectStream = Responses<v1::CoordinatorMessage>;
    type PublishObservationsStream = Responses<v1::BatchAck>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let Caller { identity, peer } = caller(&request)?;
        let node = identity.name;
        // What agents must not capture is the address they reach the coordinator at.
        let ends = Ends {
            coordinator: request.local_addr().map(|address| address.to_string()).into_iter().collect(),
            peer,
        };
        let most = limits::CONTROL_STREAMS_PER_NODE;
        let place = place(&self.0.control_streams, &node, most, "control streams")?;
        Ok(Response::new(session::open(self.0.clone(), node, ends, place, request.into_inner())))
    }

    async fn publish_observations(
        &self,
        request: Request<Streaming<v1::ObservationBatch>>,
    ) -> Result<Response<Self::PublishObservationsStream>, Status> {
        let node = caller(&request)?.identity.name;
        let most = limits::BATCH_STREAMS_PER_NODE;
        let place = place(&self.0.batch_streams, &node, most, "streams of batches")?;
        Ok(Response::new(publish::open(self.0.clone(), node, place, request.into_inner())))
    }
}

fn place(quota: &Quota, node: &str, most: usize, what: &str) -> Result<Place, Error> {
    quota.take(node, most).ok_or_else(|| {
        Error::Exhausted(format!(
            "node {node} has {most} {what} open, the limit; one certificate serves one agent, so give each agent its own"
        ))
    })
}
