//! Which interfaces a capture uses.

use lastseen_proto::v1::InterfaceKind;

use super::{Link, Snapshot, underlay};

/// Most pod veths that `auto` captures on: each takes two rings.
pub const MAX_POD_VETHS: usize = 64;
/// Most names in an error message.
const MAX_NAMED: usize = 30;

/// What to capture on.
#[derive(Debug)]
pub struct Selection {
    /// The interfaces.
    pub links: Vec<Link>,
    /// What was left out and why.
    pub coverage: Vec<String>,
    /// Physical interfaces that were left out because no pod's packet can take them: nothing is missed there.
    pub off_path: Vec<String>,
}

/// Resolves interface names, or chooses for `auto` (no names, or the one name `auto`). `node` is for messages.
pub fn select(snapshot: &Snapshot, names: &[String], node: &str) -> Result<Selection, String> {
    let all = &snapshot.links;
    let is_auto = names.is_empty() || names == ["auto"];
    let selection = if is_auto { auto(snapshot) } else { named(all, names, node)? };
    if selection.links.is_empty() {
        return Err(format!(
            "interface: node {node} has no interface that is up to capture on; it has: {}",
            known(all)
        ));
    }
    Ok(selection)
}

fn auto(snapshot: &Snapshot) -> Selection {
    let on_path = underlay::physical(snapshot);
    let (mut coverage, mut off_path) = (Vec::new(), Vec::new());
    let (mut links, mut veths) = (Vec::new(), Vec::new());
    for link in snapshot.links.iter().filter(|link| link.interface.up) {
        match link.interface.kind() {
            _ if link.frames.is_none() => {
                coverage.push(format!("{}: not captured: its frames are not decoded", link.interface.name));
            }
            InterfaceKind::Physical if !on_path.contains(&link.interface.index) => {
                off_path.push(link.interface.name.clone());
            }
            InterfaceKind::Physical | InterfaceKind::Overlay | InterfaceKind::Bridge => {
                links.push(link.clone());
            }
            InterfaceKind::PodVeth => veths.push(link.clone()),
            _ => {}
        }
    }
    if veths.len() > MAX_POD_VETHS {
        let left = veths.len() - MAX_POD_VETHS;
        coverage.push(format!(
            "{left} of {} pod interfaces not captured: the limit is {MAX_POD_VETHS}",
            veths.len()
        ));
        veths.truncate(MAX_POD_VETHS);
    }
    links.append(&mut veths);
    Selection { links, coverage, off_path }
}

fn named(all: &[Link], names: &[String], node: &str) -> Result<Selection, String> {
    let mut links: Vec<Link> = Vec::new();
    for name in names {
        if name == "any" {
            return Err(
                "interface: \"any\" sees one packet many times, which no report can undo; name interfaces, \
                        or none for auto"
                    .into(),
            );
        }
        let Some(link) = all.iter().find(|link| link.interface.name == *name) else {
            return Err(format!("interface: {name} does not exist on node {node}; it has: {}", known(all)));
        };
        if link.frames.is_none() {
            return Err(format!(
                "interface: frames of {name} on node {node} are of a kind that is not decoded"
            ));
        }
        if !links.iter().any(|known| known.interface.index == link.interface.index) {
            links.push(link.clone());
        }
    }
    let down = links.iter().filter(|link| !link.interface.up);
    let coverage = down.map(|link| format!("{}: is down", link.interface.name)).collect();
    Ok(Selection { links, coverage, off_path: Vec::new() })
}

fn known(all: &[Link]) -> String {
    let mut names: Vec<_> = all
        .iter()
        .filter(|link| link.interface.kind() != InterfaceKind::Loopback)
        .map(|link| link.interface.name.as_str())
        .collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    let list = names.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

#[cfg(test)]
mod tests {
    use lastseen_packet::LinkType;
    use lastseen_proto::v1;

    use super::*;

    fn link(index: u32, name: &str, kind: InterfaceKind, up: bool) -> Link {
        let mut interface = v1::Interface { index, name: name.into(), up, ..Default::default() };
        interface.set_kind(kind);
        Link { interface, frames: Some(LinkType::Ethernet) }
    }

    fn snapshot(links: Vec<Link>) -> Snapshot {
        let interfaces = links.iter().map(|link| link.interface.clone()).collect();
        Snapshot { links, topology: v1::NodeTopology { interfaces, ..Default::default() } }
    }

    fn node() -> Vec<Link> {
        vec![
            link(1, "lo", InterfaceKind::Loopback, true),
            link(2, "eth0", InterfaceKind::Physical, true),
            link(3, "cni0", InterfaceKind::Bridge, true),
            link(4, "flannel.1", InterfaceKind::Overlay, true),
            link(5, "veth1", InterfaceKind::PodVeth, true),
            link(6, "eth1", InterfaceKind::Physical, false),
        ]
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.links.iter().map(|link| link.interface.name.as_str()).collect()
    }

    #[test]
    fn auto_takes_what_is_up_on_the_path() {
        let selection = select(&snapshot(node()), &[], "node-a").unwrap();
        assert_eq!(names(&selection), ["eth0", "cni0", "flannel.1", "veth1"]);
        assert!(selection.coverage.is_empty());
    }

    #[test]
    fn auto_says_what_it_leaves_out() {
        let mut all = node();
        all.extend((10..80).map(|index| link(index, &format!("veth{index}"), InterfaceKind::PodVeth, true)));
        let selection = select(&snapshot(all), &["auto".into()], "node-a").unwrap();
        assert_eq!(selection.links.len(), 3 + MAX_POD_VETHS);
        assert_eq!(selection.coverage, ["7 of 71 pod interfaces not captured: the limit is 64"]);
    }

    #[test]
    fn auto_leaves_out_what_no_pods_packet_takes_and_a_name_takes_it() {
        let mut all = node();
        all[3].interface.overlay = Some(v1::OverlayDevice { underlay_index: Some(2), ..Default::default() });
        all.push(link(7, "mgmt0", InterfaceKind::Physical, true));
        let all = snapshot(all);
        let selection = select(&all, &[], "node-a").unwrap();
        assert_eq!(names(&selection), ["eth0", "cni0", "flannel.1", "veth1"]);
        assert_eq!((selection.off_path, selection.coverage.len()), (vec!["mgmt0".to_owned()], 0));
        assert_eq!(names(&select(&all, &["mgmt0".into()], "node-a").unwrap()), ["mgmt0"]);
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = select(&snapshot(node()), &["eth0".into(), "veth9".into()], "node-a").unwrap_err();
        assert_eq!(
            error,
            "interface: veth9 does not exist on node node-a; it has: cni0, eth0, eth1, flannel.1, veth1"
        );
        assert!(select(&snapshot(node()), &["any".into()], "node-a").unwrap_err().contains("many times"));
    }

    #[test]
    fn named_twice_is_captured_once_and_down_is_said() {
        let selection = select(&snapshot(node()), &["eth1".into(), "eth1".into()], "node-a").unwrap();
        assert_eq!(names(&selection), ["eth1"]);
        assert_eq!(selection.coverage, ["eth1: is down"]);
    }
}
