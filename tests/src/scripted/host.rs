//! The network of a node that is made up: a pod behind a veth, and a route to the pod of the other node of its pair.

use std::net::Ipv4Addr;

use lastseen_node_agent::capture::backend::{Settings, Source, SourceError, Target};
use lastseen_node_agent::host::{Host, Look};
use lastseen_node_agent::interfaces::{Link, Snapshot};
use lastseen_node_agent::job::spec::Backend;
use lastseen_packet::LinkType;
use lastseen_proto::v1;

use super::script::{Interface, Passage, Script, peer, pod, underlay};
use super::source::Scripted;

/// A node of a [`Script`].
#[derive(Debug, Clone, Copy)]
pub struct ScriptedHost {
    /// What happens.
    pub script: Script,
    /// Which node.
    pub node: usize,
}

impl Host for ScriptedHost {
    fn look(&self) -> Look<'_> {
        Box::pin(async { Ok(snapshot(self.node)) })
    }

    fn open(
        &self,
        _backend: Backend,
        target: &Target,
        settings: Settings,
    ) -> Result<Box<dyn Source>, SourceError> {
        let failed = |reason: String| SourceError::Open { interface: target.name.clone(), reason };
        let interface = Interface::ALL.into_iter().find(|interface| interface.index() == target.index);
        let interface = interface.ok_or_else(|| failed("no such interface".into()))?;
        let at = Passage { node: self.node, interface, direction: target.direction };
        let source = Scripted::open(self.script, at, settings.ring_bytes)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Box::new(source))
    }
}

fn snapshot(node: usize) -> Snapshot {
    let interfaces = vec![interface(node, Interface::Nic), interface(node, Interface::Veth)];
    let links =
        interfaces.iter().map(|interface| Link { interface: interface.clone(), frames: Some(LinkType::Raw) });
    let links = links.collect();
    let topology = v1::NodeTopology {
        interfaces,
        routes: routes(node),
        neighbors: vec![
            neighbor(Interface::Veth, pod(node), &mac(node, 9)),
            neighbor(Interface::Nic, underlay(peer(node)), &mac(peer(node), 2)),
        ],
        forwarding: Vec::new(),
        taken_unix_nanos: lastseen_node_agent::clock::realtime_nanos(),
    };
    Snapshot { links, topology }
}

fn interface(node: usize, which: Interface) -> v1::Interface {
    let mut interface = v1::Interface {
        index: which.index(),
        name: which.name().into(),
        mac: mac(node, which.index()),
        mtu: 1_500,
        up: true,
        running: true,
        ..Default::default()
    };
    match which {
        Interface::Nic => {
            interface.addresses = vec![format!("{}/16", underlay(node))];
            interface.set_kind(v1::InterfaceKind::Physical);
        }
        Interface::Veth => interface.set_kind(v1::InterfaceKind::PodVeth),
    }
    interface
}

fn routes(node: usize) -> Vec<v1::Route> {
    let route = |destination: String, gateway: String, output: Interface| v1::Route {
        destination,
        gateway,
        output_index: Some(output.index()),
        table: 254,
        metric: 0,
        r#type: "unicast".into(),
    };
    vec![
        route(format!("{}/32", pod(node)), String::new(), Interface::Veth),
        route("172.20.0.0/16".into(), String::new(), Interface::Nic),
        route(format!("{}/32", pod(peer(node))), underlay(peer(node)).to_string(), Interface::Nic),
    ]
}

fn neighbor(interface: Interface, address: Ipv4Addr, mac: &str) -> v1::Neighbor {
    v1::Neighbor {
        address: address.to_string(),
        mac: mac.to_owned(),
        index: interface.index(),
        state: "reachable".into(),
    }
}

fn mac(node: usize, device: u32) -> String {
    format!("02:00:{:02x}:{:02x}:00:{device:02x}", node >> 8, node & 255)
}
