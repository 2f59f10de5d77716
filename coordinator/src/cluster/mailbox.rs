//! Mail of others for those who lead captures here.

use std::collections::HashSet;

use tokio::sync::mpsc::error::TrySendError;

use crate::jobs::{Board, Event};
use crate::store::cluster::MailRow;

/// Puts mail into the queues of who leads its captures. Returns the numbers of what has no room there, to be read again:
/// who empties a queue may wait for ingest, and ingest for whoever calls this.
pub(super) fn hand_over(
    board: &Board,
    rows: Vec<(i64, MailRow)>,
    event: impl Fn(MailRow) -> Option<Event>,
) -> HashSet<i64> {
    let (mut left, mut full) = (HashSet::new(), HashSet::new());
    for (number, row) in rows {
        let Some(handle) = board.get(&row.capture).filter(|handle| handle.is_led) else { continue };
        match handle.events.try_reserve() {
            Ok(place) if !full.contains(&row.capture) => {
                if let Some(event) = event(row) {
                    place.send(event);
                }
            }
            // What comes behind one that has no room waits with it.
            Ok(_) | Err(TrySendError::Full(())) => {
                left.insert(number);
                full.insert(row.capture);
            }
            // One that has ended in the meantime needs nothing.
            Err(TrySendError::Closed(())) => {}
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::jobs::Handle;
    use crate::model::Capture;

    #[test]
    fn mail_for_a_full_queue_is_left_in_order_and_holds_up_no_other() {
        let board = Board::default();
        let mut queues = Vec::new();
        for id in ["c-1", "c-2"] {
            let (events, queue) = mpsc::channel(2);
            let view = watch::channel(Arc::new(Capture::sample(&["node-a"]))).1;
            board.insert(id, Handle { events, committed: Arc::default(), view, is_led: true });
            queues.push(queue);
        }
        let queues = std::cell::RefCell::new(queues);
        board.get("c-1").unwrap().events.try_send(Event::Fleet).unwrap();
        let row = |capture: &str| MailRow {
            capture: capture.into(),
            node: String::new(),
            kind: "unstored".into(),
            subject: String::new(),
            connected_at_nanos: 0,
            content: String::new(),
            attachment: None,
        };
        let rows = vec![(1, row("c-1")), (2, row("c-1")), (3, row("c-3")), (4, row("c-2")), (5, row("c-1"))];
        let event = |row: MailRow| {
            // A queue that somebody empties meanwhile has room again, and keeps its order.
            if row.capture == "c-2" {
                queues.borrow_mut()[0].try_recv().unwrap();
            }
            Some(Event::Unstored(row.capture))
        };
        let left = hand_over(&board, rows, event);
        assert_eq!(left, HashSet::from([2, 5]));
        let told = queues.borrow_mut()[1].try_recv().unwrap();
        assert!(matches!(told, Event::Unstored(capture) if capture == "c-2"));
    }
}
