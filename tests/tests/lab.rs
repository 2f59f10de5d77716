//! The lab itself: what it builds works, several stand side by side, and nothing is left behind.

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
