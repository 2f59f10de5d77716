//! Whatever is done to a spool, against a model of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Offer { capture: usize, index: u32, bytes: usize },
    Settle(prop::sample::Index),
    Forget(usize),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3usize, 0..3u32, 0..30_000usize)
            .prop_map(|(capture, index, bytes)| Op::Offer { capture, index, bytes }),
        6 => any::<prop::sample::Index>().prop_map(Op::Settle),
        1 => (0..3usize).prop_map(Op::Forget),
        2 => Just(Op::Reopen),
    ]
}

const CAPTURES: [&str; 3] = ["c-0", "c-1", "c-2"];

/// What must wait, and what may: settled ones whose segment is still there, after a restart.
#[derive(Default)]
struct Model {
    waiting: Vec<ObservationBatch>,
    settled: Vec<ObservationBatch>,
    sequence: u64,
}

impl Model {
    fn run(&mut self, spool: &Spool, op: &Op) {
        match op {
            Op::Offer { capture, index, bytes } => {
                let new = batch(CAPTURES[*capture], *index, self.sequence, *bytes);
                self.sequence += 1;
                if spool.offer(new.clone(), false) {
                    self.waiting.push(new);
                } else {
                    assert!(spool.waiting().1 > (1 << 20) - 31_000, "refused without need");
                }
            }
            Op::Settle(which) if !self.waiting.is_empty() => {
                let gone = self.waiting.remove(which.index(self.waiting.len()));
                assert!(spool.settle(gone.key.as_ref().unwrap()));
                self.settled.push(gone);
            }
            Op::Forget(capture) => {
                spool.forget(CAPTURES[*capture]);
                let kept =
                    |batch: &ObservationBatch| batch.key.as_ref().unwrap().capture_id != CAPTURES[*capture];
                self.waiting.retain(kept);
                self.settled.retain(kept);
            }
            Op::Settle(_) | Op::Reopen => {}
        }
    }

    /// Everything that was not settled is there; what else is was settled, and its file was needed.
    fn reopened(&mut self, spool: &Spool, files: usize) {
        let found = all(spool);
        for batch in &self.waiting {
            assert!(found.contains(batch), "{:?} is lost", batch.key);
        }
        for batch in found.iter().filter(|batch| !self.waiting.contains(batch)) {
            assert!(self.settled.contains(batch), "{:?} comes from nowhere", batch.key);
        }
        assert!(self.waiting.is_empty() <= (files == 0), "a file without use is left");
        self.settled.retain(|batch| !found.contains(batch));
        self.waiting = found;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_exactly_what_is_not_settled_is_kept(ops in vec(op(), 1..80)) {
        let home = tempfile::tempdir().unwrap();
        let (mut model, mut spool) = (Model::default(), open(home.path()));
        for op in &ops {
            if matches!(op, Op::Reopen) {
                drop(spool);
                let files = segments(home.path()).len();
                spool = open(home.path());
                model.reopened(&spool, files);
            } else {
                model.run(&spool, op);
            }
            prop_assert_eq!(spool.waiting().0, model.waiting.len());
        }
        let mut found = all(&spool);
        let by_key = |batch: &ObservationBatch| batch.key.as_ref().unwrap().sequence;
        found.sort_by_key(by_key);
        model.waiting.sort_by_key(by_key);
        prop_assert_eq!(found, model.waiting);
    }
}
