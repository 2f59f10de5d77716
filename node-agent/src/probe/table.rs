//! A table of the kernel, read once.

use lastseen_proto::table::NodeTable;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Outcome};
use super::report::{Finding, Found};
use super::spec::Schedule;
use crate::{clock, tables};

/// That of the network namespace of this thread, which is also the one of threads that it starts.
pub(super) async fn run(table: NodeTable, schedule: &Schedule, begin: Instant) -> Found {
    sleep_until(begin).await;
    let (sent, began) = (clock::realtime_nanos(), Instant::now());
    let deadline = (began + schedule.timeout).into_std();
    let reading = spawn_blocking(move || tables::read(table, deadline));
    let read = reading.await.unwrap_or_else(|error| Err(format!("the reader of {table} broke off: {error}")));
    let mut found = Found::nothing(table.to_string(), String::new());
    let attempt = Attempt::silent(sent);
    match read {
        Ok(read) => {
            let delay = Some(began.elapsed());
            found.attempts = vec![Attempt { outcome: Outcome::Answered, delay, ..attempt }];
            found.finding = Some(Finding::Table(read));
        }
        Err(reason) => {
            found.attempts = vec![Attempt { outcome: Outcome::NotSent, ..attempt }];
            found.reason = reason;
        }
    }
    found
}
