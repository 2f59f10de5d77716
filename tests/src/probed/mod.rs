//! Probes through the fault of a scenario: every kind at once, from the sending pod to the receiving one, and what each
//! finds against what its file says.

mod found;
mod kinds;
pub mod results;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, anyhow, bail};

use self::kinds::KINDS;
use self::results::ProbedResult;
use crate::fault::Cast;
use crate::product::fleet::Fleet;
use crate::scenario::casting::Staging;
use crate::scenario::file::Scenario;
use crate::scenario::run::{inject, undo};
use crate::served::Server;

/// Ports of the receiving pod.
const OPEN: u16 = 9_080;
const PAGES: u16 = 9_081;
const NAMES: u16 = 53;
/// Of a page: some packets of the largest size.
const PAGE_BYTES: usize = 20_000;

/// What each kind finds, in words; of a scenario's file, those that are not as where nothing is wrong.
pub type Words = BTreeMap<String, String>;

/// Probes through the scenario's fault and puts the lab back as it was. None: the scenario is not probed.
pub fn run(fleet: &Fleet<'_>, scenario: &Scenario, seed: u64) -> Option<ProbedResult> {
    let own = scenario.probes.as_ref()?;
    let result = ProbedResult::new(&scenario.name, seed, expected(own));
    let staging = Staging::new(fleet.lab, scenario, seed, 1.0);
    let injected = match inject(scenario, staging.cast) {
        Ok(injected) => injected,
        Err(error) => return Some(result.skipped(&error)),
    };
    let found = probe(fleet, staging.cast);
    Some(match (found, undo(scenario, staging.cast, injected)) {
        (Err(error), _) | (Ok(_), Err(error)) => result.failed(&error),
        (Ok(found), Ok(())) => result.judged(found),
    })
}

fn expected(own: &Words) -> Words {
    let usual = KINDS.iter().map(|kind| (kind.name.to_owned(), kind.healthy.to_owned()));
    usual.chain(own.clone()).collect()
}

/// All kinds at the same time: none waits for another.
fn probe(fleet: &Fleet<'_>, cast: Cast<'_>) -> Result<Words> {
    let _servers = serve(cast)?;
    thread::scope(|scope| {
        let running: Vec<_> = KINDS
            .iter()
            .map(|kind| (kind.name, scope.spawn(move || kinds::run(kind, &fleet.ctl, cast))))
            .collect();
        let finished = running.into_iter().map(|(name, thread)| {
            let found = thread.join().map_err(|_| anyhow!("the {name} probe panicked"))??;
            Ok((name.to_owned(), found))
        });
        finished.collect()
    })
}

/// Everything that is asked for, in the receiving pod.
fn serve(cast: Cast<'_>) -> Result<Vec<Server>> {
    let pod = &cast.receiver.pod;
    let at = |port| SocketAddr::new(cast.receiver.plan.pod_in(cast.family), port);
    Ok(vec![
        Server::connections(pod, at(OPEN))?,
        Server::echo(pod, at(OPEN))?,
        Server::names(pod, at(NAMES))?,
        Server::pages(pod, at(PAGES), PAGE_BYTES)?,
    ])
}

/// Whether the scenario's file asks for something that is not probed.
pub(crate) fn validate(scenario: &Scenario) -> Result<()> {
    let kinds = scenario.probes.iter().flatten().map(|(kind, _)| kind);
    for kind in kinds {
        if !KINDS.iter().any(|known| known.name == kind) {
            bail!("probes.{kind}: no kind of probe");
        }
    }
    Ok(())
}
