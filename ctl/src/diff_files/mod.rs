//! `diff-files`: a report from capture files, made by any tool, without a coordinator.

mod fabric;
mod filters;
mod name;
mod places;
mod run;
mod shelf;
mod sides;
mod slice;
mod strays;
mod tap;
mod window;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::bail;
use lastseen_correlate::{Report, ViewOptions};
use lastseen_packet::DecodeConfig;

use self::fabric::Fabric;
pub(crate) use self::name::{Named, parse};
pub(crate) use self::shelf::Room;

/// The report on `files`, as `options` choose, for whose observations there is `room`.
pub(crate) fn diff(
    files: &[Named],
    topology: Option<&Path>,
    options: &ViewOptions,
    config: DecodeConfig,
    room: Room<'_>,
) -> anyhow::Result<Report> {
    name::check(files)?;
    let fabric = topology.map(Fabric::read).transpose()?;
    for (field, end) in [("--from", &options.from), ("--to", &options.to)] {
        check_end(field, end.as_deref(), files, fabric.as_ref())?;
    }
    let report = run::run(files, fabric, config, room)?;
    Ok(if *options == ViewOptions::default() { report } else { report.filtered(options) })
}

/// An end of a path is a node of the files or of the topology, or an address with or without a port.
fn check_end(field: &str, end: Option<&str>, files: &[Named], fabric: Option<&Fabric>) -> anyhow::Result<()> {
    let Some(end) = end else { return Ok(()) };
    let is_address = end.parse::<IpAddr>().is_ok() || end.parse::<SocketAddr>().is_ok();
    let is_node = files.iter().any(|named| named.node == end)
        || fabric.is_some_and(|fabric| fabric.names().any(|name| name == end));
    if is_address || is_node {
        return Ok(());
    }
    let mut nodes: Vec<&str> = files.iter().map(|named| named.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    bail!(
        "{field}: {end:?} is neither a node of these files nor an address; their nodes: {}",
        nodes.join(", ")
    )
}
