//! The topology of both nodes, as `ctl export-topology` writes it.

use serde_json::{Value, json};

use super::case::{Carriage, Case, NODES};
use super::cast::Cast;

/// The file's contents.
pub(super) fn json(case: &Case, cast: &Cast) -> Value {
    let nodes = [0, 1].map(|node| json!({"node": NODES[node], "topology": node_of(case, cast, node)}));
    json!({"captureId": "c-1", "nodes": nodes})
}

fn mac(node: usize, device: u8) -> String {
    format!("02:00:00:00:{:02x}:{device:02x}", node + 1)
}

fn node_of(case: &Case, cast: &Cast, node: usize) -> Value {
    let peer = 1 - node;
    let prefix = |node: usize| format!("10.244.{}.0/24", cast.prefixes[node]);
    let is_layer_3 = matches!(case.carriage, Carriage::IpInIp | Carriage::WireGuard);
    let gateway = match case.carriage {
        Carriage::WireGuard => String::new(),
        Carriage::IpInIp => cast.underlay[peer].to_string(),
        _ => cast.own(peer).to_string(),
    };
    let mut neighbors = vec![json!({"address": cast.pods[node], "mac": mac(node, 100), "index": 4})];
    let mut forwarding =
        vec![json!({"mac": mac(node, 100), "index": 5}), json!({"mac": mac(node, 5), "index": 5})];
    if !is_layer_3 {
        neighbors.push(json!({"address": cast.own(peer), "mac": mac(peer, 3), "index": 3}));
        forwarding.push(json!({"mac": mac(peer, 3), "index": 3, "remote": cast.underlay[peer]}));
    }
    json!({
        "interfaces": interfaces(case, cast, node),
        "routes": [
            {"destination": prefix(node), "outputIndex": 4, "table": 254, "type": "unicast"},
            {"destination": format!("{}/24", cast.underlay[node]), "outputIndex": 2, "table": 254, "type": "unicast"},
            {"destination": prefix(peer), "gateway": gateway, "outputIndex": 3, "table": 254, "type": "unicast"},
        ],
        "neighbors": neighbors,
        "forwarding": forwarding,
    })
}

fn interfaces(case: &Case, cast: &Cast, node: usize) -> Value {
    let one = |index: u8, name: &str, kind: &str, mtu: u32, addresses: &[String]| {
        json!({"index": index, "name": name, "kind": kind, "mac": mac(node, index), "mtu": mtu,
            "addresses": addresses, "up": true, "running": true})
    };
    let (kind, id, port) = match case.carriage {
        Carriage::Geneve => ("GENEVE", cast.tunnel_id, 6081),
        Carriage::IpInIp => ("IP_IN_IP", 0, 0),
        Carriage::WireGuard => ("WIREGUARD", 0, 51_820),
        Carriage::TaggedVxlan | Carriage::Vxlan => ("VXLAN", cast.tunnel_id, 8472),
    };
    let mut tunnel = one(3, case.device(), "OVERLAY", 1_400, &[format!("{}/32", cast.own(node))]);
    tunnel["overlay"] = json!({"kind": kind, "id": id, "port": port});
    if matches!(case.carriage, Carriage::IpInIp | Carriage::WireGuard) {
        tunnel["mac"] = json!("");
    } else {
        tunnel["overlay"]["local"] = json!(cast.underlay[node]);
        tunnel["overlay"]["underlayIndex"] = json!(2);
    }
    let mut veth = one(5, "veth", "POD_VETH", 1_400, &[]);
    veth["masterIndex"] = json!(4);
    let bridge = format!("10.244.{}.1/24", cast.prefixes[node]);
    json!([
        one(2, "eth0", "PHYSICAL", 1_500, &[format!("{}/24", cast.underlay[node])]),
        tunnel,
        one(4, "cni0", "BRIDGE", 1_400, &[bridge]),
        veth,
    ])
}
