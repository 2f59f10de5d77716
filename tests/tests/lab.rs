//! The lab itself: what it builds works, several stand side by side, and nothing is left behind.

use lastseen_tests::lab::neighbor::reach;
use lastseen_tests::lab::node::BRIDGE;
use lastseen_tests::lab::{Lab, cleanup};

#[test]
fn two_labs_side_by_side_and_nothing_left_behind() {
    let (one, other) = (Lab::build(1).expect("first lab"), Lab::build(1).expect("second lab"));
    let prefixes = [one.plan.prefix.clone(), other.plan.prefix.clone()];
    for prefix in &prefixes {
        assert_eq!(
            cleanup::namespaces(prefix).len(),
            11,
            "three nodes with two pods each, switch, management"
        );
    }
    drop(one);
    other.warm_up().expect("the second lab outlives the first");
    drop(other);
    for prefix in &prefixes {
        assert_eq!(cleanup::namespaces(prefix), Vec::<String>::new());
    }
}

#[test]
fn pods_reach_their_gateway_after_another_pod_came_and_went() {
    let lab = Lab::build(2).expect("lab");
    let node = &lab.nodes[0];
    let second = &node.plan.neighbor;
    node.plug_neighbor(BRIDGE, second.address).expect("plug in the second pod");
    // A bridge without an address of its own takes the lowest of its ports.
    node.netns.ip(&format!("link set {} address 02:00:00:00:00:01\n", second.veth)).expect("lowest address");
    node.pod.ip("neigh flush dev eth0\n").expect("forget the gateway");
    reach(&node.pod, node.plan.gateway()).expect("the gateway");
    node.unplug_neighbor().expect("take the second pod off");
    lab.warm_up().expect("every pod reaches every other");
}
