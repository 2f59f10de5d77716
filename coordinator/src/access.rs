//! Who may call what: one table, checked before any service sees the call. What is not in it is denied to everyone.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use lastseen_runtime::identity::{Identity, Role};
use lastseen_runtime::server::peer_identity;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Request, Status};

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
    ("/grpc.health.v1.Health/", ANY),
    ("/grpc.reflection.v1.ServerReflection/", READ),
];

/// Whether `role` may call the method at `path`.
pub fn is_allowed(role: Role, path: &str) -> bool {
    let covers = |entry: &str| if entry.ends_with('/') { path.starts_with(entry) } else { path == entry };
    TABLE.iter().any(|(entry, roles)| covers(entry) && roles.contains(&role))
}

/// Lets through what [`TABLE`] allows, with the caller's [`Identity`] in the request's extensions.
#[derive(Clone, Debug)]
pub struct Access<S> {
    inner: S,
    trust_domain: String,
}

impl<S> Access<S> {
    /// Guards `inner` for identities of `trust_domain`.
    pub fn new(inner: S, trust_domain: String) -> Self {
        Self { inner, trust_domain }
    }

    fn check(&self, extensions: &http::Extensions, path: &str) -> Result<Identity, Status> {
        let mut request = Request::new(());
        *request.extensions_mut() = extensions.clone();
        let identity = peer_identity(&request)?;
        if identity.trust_domain != self.trust_domain {
            return Err(Status::unauthenticated(format!(
                "{identity} is not of trust domain {:?}; use a certificate of this fabric",
                self.trust_domain
            )));
        }
        if !is_allowed(identity.role, path) {
            let method = path.rsplit('/').next().unwrap_or(path);
            let roles =
                TABLE.iter().find(|(entry, _)| path.starts_with(entry)).map_or(&[][..], |(_, roles)| roles);
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            return Err(Status::permission_denied(format!(
                "{identity} may not call {method}; it needs the role {}",
                if roles.is_empty() { "of a newer version".to_owned() } else { roles.join(" or ") }
            )));
        }
        Ok(identity)
    }
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
        match self.check(request.extensions(), request.uri().path()) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Box::pin(self.inner.call(request))
            }
            Err(status) => {
                tracing::warn!(path = request.uri().path(), reason = status.message(), "audit: call refused");
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

/// The caller of a request that passed [`Access`].
pub fn caller<T>(request: &Request<T>) -> Result<Identity, Status> {
    let identity = request.extensions().get::<Identity>().cloned();
    identity.ok_or_else(|| Status::internal("the call came around the access check"))
}
