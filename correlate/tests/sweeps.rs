//! Losses are exact whatever their share, leg and rate, with and without offload and translation.
#![allow(missing_docs)]

use crate::sweep;

#[test]
fn every_loss_is_named_on_its_leg_and_no_other() {
    let table = sweep::sweep(1, &[0.001, 0.2], &[100, 400]);
    assert!(table.total.lost > 1_000, "{table}");
    assert!(table.total.is_exact(), "{table}");
}
