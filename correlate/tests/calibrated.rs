//! Stated confidence and the truth, over mixtures of network loss and capture loss.
#![allow(missing_docs)]

use crate::calibration::{Misses, sweep};

#[test]
fn confidence_is_worth_more_than_the_base_rate() {
    let sweep = sweep(1);
    let total = sweep.total;
    assert!(total.stated_lost > 0 && total.stated > total.stated_lost, "{sweep}");
    assert!(total.brier() < 0.5 * total.base_rate_brier(), "{sweep}");
}

#[test]
fn what_a_point_that_says_so_missed_is_never_called_lost() {
    for row in sweep(2).rows.iter().filter(|row| row.misses == Misses::Declared) {
        assert_eq!(row.score.false_losses, 0, "{row:?}");
        assert_eq!(row.score.unseen > 0, row.capture > 0.0, "{row:?}");
    }
}

#[test]
fn of_what_a_point_silently_missed_hardly_any_is_called_lost() {
    for row in sweep(3).rows.iter().filter(|row| row.misses == Misses::Silent) {
        let share = row.score.false_losses as f64 / row.score.called.max(1) as f64;
        assert!(share <= 1.0 - lastseen_correlate::LEAST_CONFIDENCE, "{row:?}");
    }
}

#[test]
fn without_capture_loss_every_loss_is_called_and_no_other() {
    for row in sweep(4).rows.iter().filter(|row| row.capture == 0.0) {
        assert_eq!((row.score.called, row.score.false_losses), (row.score.lost, 0), "{row:?}");
    }
}
