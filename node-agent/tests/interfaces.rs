//! What rtnetlink tells about a node like flannel makes it.

use crate::common::Namespace;
use lastseen_node_agent::interfaces::select::select;
use lastseen_node_agent::interfaces::{Snapshot, snapshot};
use lastseen_proto::v1::{
    Interface,
    InterfaceKind::{Bridge, Loopback, Overlay, Physical, PodVeth},
    OverlayKind,
};

fn look(namespace: &Namespace) -> Snapshot {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(snapshot()).unwrap()
    })
}

fn node() -> (Namespace, Namespace, Namespace) {
    let (node, pod, switch) = (Namespace::new(), Namespace::new(), Namespace::new());
    node.ip(&format!("link add eth0 mtu 1500 type veth peer name port1 netns {}", switch.id()));
    node.ip("addr add 192.168.7.1/24 dev eth0");
    node.ip("link set eth0 up");
    switch.ip("link set port1 up");
    node.ip("link add cni0 type bridge");
    node.ip("addr add 10.244.1.1/24 dev cni0");
    node.ip("link set cni0 up");
    node.ip(&format!("link add veth1 mtu 1450 master cni0 type veth peer name eth0 netns {}", pod.id()));
    node.ip("link set veth1 up");
    node.ip("link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.7.1 dev eth0 nolearning");
    node.ip("addr add 10.244.1.0/32 dev flannel.1");
    node.ip("link set flannel.1 up");
    node.ip("route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
    node.ip("route add blackhole 10.66.0.0/16");
    node.ip("neigh add 10.244.2.0 lladdr 02:00:00:00:02:00 dev flannel.1 nud permanent");
    node.command("bridge fdb append 02:00:00:00:02:00 dev flannel.1 dst 192.168.7.2");
    (node, pod, switch)
}

#[test]
fn a_flannel_node_is_classified_with_its_tunnel_routes_and_entries() {
    let (node, _pod, _switch) = node();
    let topology = look(&node).topology;
    let find = |name: &str| -> &Interface { topology.interfaces.iter().find(|i| i.name == name).unwrap() };
    let kinds = ["lo", "eth0", "cni0", "veth1", "flannel.1"].map(|name| find(name).kind());
    assert_eq!(kinds, [Loopback, Physical, Bridge, PodVeth, Overlay]);

    let (eth0, veth) = (find("eth0"), find("veth1"));
    assert_eq!(
        (eth0.mtu, eth0.addresses.as_slice(), eth0.up),
        (1500, &["192.168.7.1/24".to_owned()][..], true)
    );
    assert_eq!((veth.mtu, veth.master_index, veth.mac.len()), (1450, Some(find("cni0").index), 17));
    assert!(veth.peer_index.is_some());

    let tunnel = find("flannel.1").overlay.clone().unwrap();
    assert_eq!((tunnel.kind(), tunnel.id, tunnel.port), (OverlayKind::Vxlan, 1, 8472));
    assert_eq!((tunnel.local.as_str(), tunnel.underlay_index), ("192.168.7.1", Some(eth0.index)));

    let route = |destination: &str| topology.routes.iter().find(|r| r.destination == destination).unwrap();
    let remote = route("10.244.2.0/24");
    let output = (remote.gateway.as_str(), remote.output_index, remote.table, remote.r#type.as_str());
    assert_eq!(output, ("10.244.2.0", Some(find("flannel.1").index), 254, "unicast"));
    assert_eq!(route("10.66.0.0/16").r#type, "blackhole");
    assert!(topology.routes.iter().all(|r| r.table != 255));

    let neighbor = topology.neighbors.iter().find(|n| n.address == "10.244.2.0").unwrap();
    assert_eq!((neighbor.mac.as_str(), neighbor.state.as_str()), ("02:00:00:00:02:00", "permanent"));
    let entry = topology.forwarding.iter().find(|e| e.mac == "02:00:00:00:02:00").unwrap();
    assert_eq!((entry.index, entry.remote.as_str()), (find("flannel.1").index, "192.168.7.2"));
    let port = topology.forwarding.iter().find(|e| e.index == veth.index);
    assert!(port.is_some(), "the bridge knows its port's address");
}

#[test]
fn auto_leaves_out_a_management_interface_until_something_leaves_by_it() {
    let (node, _pod, switch) = node();
    node.ip(&format!("link add mgmt0 type veth peer name port2 netns {}", switch.id()));
    node.ip("addr add 172.16.9.1/24 dev mgmt0");
    node.ip("link set mgmt0 up");
    switch.ip("link set port2 up");
    let auto = |snapshot: &Snapshot| {
        let selection = select(snapshot, &[], "node-a").unwrap();
        let names: Vec<_> = selection.links.iter().map(|link| link.interface.name.clone()).collect();
        (names.join(" "), selection.off_path.join(" "), selection.coverage)
    };
    let on_path = "eth0 cni0 flannel.1 veth1".to_owned();
    assert_eq!(auto(&look(&node)), (on_path.clone(), "mgmt0".into(), vec![]));

    // Without a device of its own the tunnel shows the way by where it leads.
    node.ip("link del flannel.1");
    node.ip("link add flannel.1 type vxlan id 1 dstport 8472 nolearning");
    node.ip("link set flannel.1 up");
    node.command("bridge fdb append 02:00:00:00:02:00 dev flannel.1 dst 192.168.7.2");
    let (names, off_path, _) = auto(&look(&node));
    assert_eq!((names.contains("flannel.1"), off_path.as_str()), (true, "mgmt0"));

    node.ip("route add 10.99.0.0/16 via 172.16.9.254");
    let (names, off_path, _) = auto(&look(&node));
    assert_eq!((names.contains("mgmt0"), off_path.as_str()), (true, ""));
}
