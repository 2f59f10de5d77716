//! A check as it is asked for.

use lastseen_proto::target::Target;

use crate::probes::model::{Family, Source};

/// As it is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where.
    pub what: What,
    /// Names to resolve.
    pub names: Vec<String>,
    /// By whom; empty: by those of each place.
    pub nameservers: Vec<String>,
    /// URLs to fetch.
    pub endpoints: Vec<String>,
    /// Whom to trust for them; empty: whom browsers trust.
    pub ca_pem: String,
    /// The API server.
    pub api_server: Option<ApiServer>,
    /// Addresses and names outside, with or without a port.
    pub external: Vec<String>,
}

/// An API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// Where it is.
    pub url: String,
    /// Whom to trust for it; empty: whom browsers trust.
    pub ca_pem: String,
}

/// Where is looked.
#[derive(Clone, Debug)]
pub enum What {
    /// Each place by itself, and hosts to each other.
    Hosts {
        /// Every host that is ready.
        all_nodes: bool,
        /// Or these places.
        sources: Vec<Source>,
    },
    /// One place and one target.
    Path {
        /// Whence.
        from: Source,
        /// Whither.
        to: Target,
        /// For names.
        family: Family,
    },
}
