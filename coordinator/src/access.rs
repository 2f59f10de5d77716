//! Who may call what: one table, checked before any service sees the call. What is not in it is denied to everyone.

mod cuttable;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cuttable::Cuttable;
use lastseen_runtime::identity::{Identity, Role};
use lastseen_runtime::server::peer_identity;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

use crate::connections::{Arrival, Peer};
use crate::guard::Guard;
use crate::limits;

const AGENT: &[Role] = &[Role::Agent];
const READ: &[Role] = &[Role::Operator, Role::Viewer];
const RUN: &[Role] = &[Role::Operator];
const ANY: &[Role] = &[Role::Agent, Role::Operator, Role::Viewer];

/// Methods, or services where all of their methods are alike, and who may call them.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/lastseen.v1.AgentService/Connect", AGENT),
    ("/lastseen.v1.AgentService/PublishObservations", AGENT),
    ("/lastseen.v1.FleetService/ListNodes", READ),
    ("/lastseen.v1.FleetService/GetNode", READ),
    ("/lastseen.v1.FleetService/WatchNodes", READ),
    ("/lastseen.v1.FleetService/CheckStorage", READ),
    ("/lastseen.v1.CaptureService/StartCapture", RUN),
    ("/lastseen.v1.CaptureService/ListCaptures", READ),
    ("/lastseen.v1.CaptureService/GetCapture", READ),
    ("/lastseen.v1.CaptureService/WatchCapture", READ),
    ("/lastseen.v1.CaptureService/StopCapture", RUN),
    ("/lastseen.v1.CaptureService/DeleteCapture", RUN),
    ("/lastseen.v1.AnalysisService/DiffNodes", READ),
    ("/lastseen.v1.AnalysisService/ListFlows", READ),
    ("/lastseen.v1.AnalysisService/ListLostPackets", READ),
    ("/lastseen.v1.AnalysisService/GetTopology", READ),
    ("/lastseen.v1.ProbeService/RunProbe", RUN),
    ("/lastseen.v1.ProbeService/TracePath", RUN),
    ("/lastseen.v1.ProbeService/Check", RUN),
    ("/lastseen.v1.ProbeService/ListProbes", READ),
    ("/lastseen.v1.ProbeService/GetProbe", READ),
    ("/lastseen.v1.ProbeService/WatchProbe", READ),
    ("/lastseen.v1.ProbeService/StopProbe", RUN),
    ("/lastseen.v1.ProbeService/DiffProbe", READ),
    ("/lastseen.v1.AuditService/ListAudit", RUN),
    ("/grpc.health.v1.Health/", ANY),
    ("/grpc.reflection.v1.ServerReflection/", READ),
];

/// Whether `role` may call the method at `path`.
pub fn is_allowed(role: Role, path: &str) -> bool {
    entry(path).is_some_and(|(_, roles)| roles.contains(&role))
}

fn entry(path: &str) -> Option<(&'static str, &'static [Role])> {
    let covers = |entry: &str| if entry.ends_with('/') { path.starts_with(entry) } else { path == entry };
    TABLE.iter().find(|(entry, _)| covers(entry)).copied()
}

/// Who calls, and from where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As its certificate says.
    pub identity: Identity,
    /// The other end of its connection.
    pub peer: Arc<Peer>,
}

/// Lets through what [`TABLE`] and the policy allow, with the [`Caller`] in the request's extensions. What is open of a
/// caller that is denied ends with the reason.
#[derive(Clone)]
pub struct Access<S> {
    inner: S,
    guard: Arc<Guard>,
}

type TlsInfo = TlsConnectInfo<TcpConnectInfo>;

impl<S> Access<S> {
    /// Guards `inner`.
    pub fn new(inner: S, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }

    fn admit(&self, request: &mut http::Request<Body>) -> Result<Arc<Peer>, Status> {
        let arrival = request.extensions_mut().remove::<Arrival<TlsInfo>>();
        let Arrival { info, peer } =
            arrival.ok_or_else(|| Status::internal("the call came around the listener"))?;
        // Where tonic and `peer_identity` look for it.
        request.extensions_mut().insert(info);
        let checked = self.check(request, &peer);
        let path = request.uri().path();
        match checked {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Ok(peer)
            }
            Err((reason, status)) => {
                tracing::warn!(path, reason = status.message(), "call refused");
                self.guard.metrics.refused_call(reason);
                self.guard.audit.refused(&peer, action(path), reason, status.message());
                Err(status)
            }
        }
    }

    /// Why not is told in a word for the metric beside what the caller hears.
    fn check(
        &self,
        request: &http::Request<Body>,
        peer: &Arc<Peer>,
    ) -> Result<Caller, (&'static str, Status)> {
        let path = request.uri().path();
        let identity = self.identify(request).map_err(|status| ("identity", status))?;
        if let Some(status) = peer.denial() {
            return Err(("denied", status));
        }
        if self.guard.rates.take(&identity.to_string(), Instant::now()).is_err() {
            let status = Status::resource_exhausted(format!(
                "{identity} calls more often than {} times a second, the limit; slow down",
                limits::CALLS_PER_SECOND
            ));
            return Err(("rate", status));
        }
        if !is_allowed(identity.role, path) {
            return Err(("role", out_of_role(&identity, path)));
        }
        Ok(Caller { identity, peer: peer.clone() })
    }

    fn identify(&self, request: &http::Request<Body>) -> Result<Identity, Status> {
        let mut bare = Request::new(());
        *bare.extensions_mut() = request.extensions().clone();
        let identity = peer_identity(&bare)?;
        if identity.trust_domain != self.guard.trust_domain {
            return Err(Status::unauthenticated(format!(
                "{identity} is not of trust domain {:?}; use a certificate of this fabric",
                self.guard.trust_domain
            )));
        }
        Ok(identity)
    }
}

/// The call as the audit names it. What callers make up has one name: no one can fill the audit with others.
fn action(path: &str) -> &'static str {
    let entry = entry(path).map_or("", |(entry, _)| entry);
    entry.split('/').rfind(|part| !part.is_empty()).unwrap_or("unknown call")
}

/// Last part of a call's path.
fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn out_of_role(identity: &Identity, path: &str) -> Status {
    let roles = entry(path).map_or(&[][..], |(_, roles)| roles);
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    Status::permission_denied(format!(
        "{identity} may not call {}; it needs the role {}",
        method(path),
        if roles.is_empty() { "of a newer version".to_owned() } else { roles.join(" or ") }
    ))
}

impl<S> Service<http::Request<Body>> for Access<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let peer = match self.admit(&mut request) {
            Ok(peer) => peer,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let (open, answer) = (peer.call(), self.inner.call(request));
        Box::pin(async move {
            tokio::select! {
                biased;
                () = peer.denied().cancelled() => Ok(peer.denial().unwrap_or_else(|| Status::cancelled("")).into_http()),
                answer = answer => {
                    let answer = answer?;
                    Ok(answer.map(|body| Body::new(Cuttable::new(body, peer, open))))
                }
            }
        })
    }
}

/// The caller of a request that passed [`Access`].
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("the call came around the access check"))
}
