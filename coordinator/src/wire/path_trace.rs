//! Traces of paths as they are asked for.

use lastseen_proto::v1;

use super::probe::{family, protocol, span_nanos};
use crate::error::Error;
use crate::path_trace::{Request, Sizes};
use crate::probes::model::Source;

/// A trace as it was asked for.
pub fn request(message: v1::TracePathRequest) -> Result<Request, Error> {
    let sizes = match (message.size, message.sweep) {
        (Some(_), true) => return Err(Error::invalid("size", "given together with sweep; give one of them")),
        (Some(size), false) => Some(Sizes::One(size)),
        (None, true) => Some(Sizes::Sweep),
        (None, false) => None,
    };
    let protocol = protocol(message.protocol)?;
    let from =
        message.from.ok_or_else(|| Error::invalid("from", "missing; give a node, a pod or an address"))?;
    Ok(Request {
        from: Source { node: from.node, netns: from.netns },
        to: message.to,
        protocol,
        sizes,
        count: message.count,
        interval_nanos: message.interval.as_ref().map(|span| span_nanos("interval", span)).transpose()?,
        dont_fragment: message.dont_fragment,
        family: family(message.family)?,
    })
}
