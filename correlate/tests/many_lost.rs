//! More packets are lost than are listed.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::LOST_LIMIT;

#[test]
fn of_more_lost_packets_than_the_limit_the_earliest_are_listed_and_all_are_counted() {
    let lost = LOST_LIMIT as u32 + 2_000;
    let mut lab = Lab::new(2);
    for id in 0..2 * lost {
        let mask = if id % 2 == 0 { up_to(4) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + SECOND + i64::from(id) * 200 * MICRO, mask);
    }
    let outcome = run(lab.job.clone(), lab.batches());
    assert_sums(&outcome);
    assert_eq!((outcome.report.totals.lost, outcome.omitted_lost), (u64::from(lost), 2_000));
    let listed: Vec<_> = outcome.lost.iter().map(|packet| packet.ip_id.unwrap()).collect();
    let earliest: Vec<_> = (0..LOST_LIMIT as u16).map(|number| 2 * number).collect();
    assert!(listed == earliest, "{} are listed, from {:?} to {:?}", listed.len(), listed[0], listed.last());
}
