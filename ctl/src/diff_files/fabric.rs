//! The topology that `ctl export-topology` wrote.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use lastseen_correlate::topology::{Interface, Topology};
use lastseen_proto::v1::FabricTopology;

use super::name::Named;
use super::places::Places;
use crate::output::json;

/// Largest file that is read.
const LARGEST_BYTES: u64 = 256 << 20;

/// Nodes and their tables.
#[derive(Debug)]
pub(super) struct Fabric {
    nodes: BTreeMap<String, Topology>,
    /// Whose which addresses are.
    pub(super) places: Places,
}

impl Fabric {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let length = std::fs::metadata(file).with_context(|| format!("cannot open {shown}"))?.len();
        if length > LARGEST_BYTES {
            bail!("{shown}: larger than {} MiB; give what `ctl export-topology` wrote", LARGEST_BYTES >> 20);
        }
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| anyhow!("{shown}: not a topology; give what `ctl export-topology` wrote"))?;
        let exported: FabricTopology = json::parse(&text)
            .map_err(|e| anyhow!("{shown}: not a topology ({e}); give what `ctl export-topology` wrote"))?;
        let mut nodes = BTreeMap::new();
        for node in exported.nodes {
            let tables = node.topology.unwrap_or_default();
            let tables =
                Topology::try_from(&tables).map_err(|e| anyhow!("{shown}: node {}: {e}", node.node))?;
            if nodes.insert(node.node.clone(), tables).is_some() {
                bail!("{shown}: node {} is in it twice", node.node);
            }
        }
        if nodes.is_empty() {
            bail!("{shown}: names no node; give what `ctl export-topology` wrote");
        }
        Ok(Self { places: Places::new(&nodes), nodes })
    }

    /// Tables of a node, empty for one that is not in the file.
    pub(super) fn tables(&self, node: &str) -> Topology {
        self.nodes.get(node).cloned().unwrap_or_default()
    }

    /// Every node's name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// Every interface with a tunnel.
    pub(super) fn tunnels(&self) -> impl Iterator<Item = &Interface> {
        self.nodes
            .values()
            .flat_map(|tables| &tables.interfaces)
            .filter(|interface| interface.overlay.is_some())
    }

    /// The interface that `named` means: the host's, else the only one of that name in the node's other namespaces.
    pub(super) fn interface(&self, named: &Named) -> anyhow::Result<(&Topology, &Interface)> {
        let Named { node, interface, .. } = named;
        let tables = self.nodes.get(node).ok_or_else(|| {
            let known: Vec<&str> = self.names().collect();
            anyhow!("{}: the topology has no node {node:?}; it has {}", named.name(), known.join(", "))
        })?;
        let of_name = || tables.interfaces.iter().filter(|known| known.name == *interface);
        if let Some(host) = of_name().find(|known| known.is_host()) {
            return Ok((tables, host));
        }
        match (of_name().next(), of_name().nth(1)) {
            (Some(only), None) => Ok((tables, only)),
            (Some(_), Some(_)) => {
                bail!(
                    "{}: several network namespaces of {node} have an interface {interface:?}",
                    named.name()
                )
            }
            _ => {
                let host = tables.interfaces.iter().filter(|known| known.is_host());
                let known: Vec<&str> = host.map(|known| known.name.as_str()).collect();
                bail!(
                    "{}: the topology of {node} has no interface {interface:?}; it has {}",
                    named.name(),
                    known.join(", ")
                )
            }
        }
    }
}
