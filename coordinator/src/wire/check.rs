//! Checks as they are asked for.

use lastseen_proto::target::Target;
use lastseen_proto::url::WebUrl;
use lastseen_proto::v1;
use lastseen_proto::v1::check_spec::What as Asked;

use super::probe::{family, source};
use crate::checks::{ApiServer, Request, What};
use crate::error::Error;

/// A check as it was asked for. `known` is the API server that the coordinator was told of.
pub fn request(spec: v1::CheckSpec, known: Option<&ApiServer>) -> Result<Request, Error> {
    let v1::CheckSpec { what, names, endpoints, api_server, ca_pem, external, nameservers } = spec;
    let what = match what {
        None => return Err(Error::invalid("what", "missing; say what to check, hosts or a path")),
        Some(Asked::Host(v1::HostCheck { all_nodes, sources })) => {
            What::Hosts { all_nodes, sources: sources.into_iter().map(source).collect() }
        }
        Some(Asked::Path(v1::PathCheck { from, to, family: asked })) => {
            let from =
                from.ok_or_else(|| Error::invalid("from", "missing; give a node, a pod or an address"))?;
            let to: Target = to.parse().map_err(|error| Error::invalid("to", format!("{error}")))?;
            What::Path { from: source(from), to, family: family(asked)? }
        }
    };
    let api_server = match api_server.as_str() {
        "" => known.cloned(),
        given => Some(ApiServer { url: url("api_server", given)?, ca_pem: ca_pem.clone() }),
    };
    // What is refused here is stored nowhere, passwords in URLs among it.
    let endpoints = endpoints.iter().map(|given| url("endpoints", given)).collect::<Result<_, _>>()?;
    Ok(Request { what, names, nameservers, endpoints, ca_pem, api_server, external })
}

/// A URL as it is probed.
fn url(field: &'static str, given: &str) -> Result<String, Error> {
    let url: Result<WebUrl, _> = given.parse();
    url.map(|url| url.to_string()).map_err(|error| Error::invalid(field, format!("{error}")))
}
