//! A capture that has ended, correlated once more from what is stored of it. For measurement only: nothing is stored,
//! and no service leads here.

use std::path::Path;

use lastseen_correlate::Ablation;

use super::run::Means;
use super::{Found, job, run, translated};
use crate::error::Error;
use crate::files::{self, Files};
use crate::limits;
use crate::store::{SqliteStore, Store};

/// What the method finds in capture `id` of a coordinator that keeps its data in `data_dir`, without an idea or with
/// all of them. The coordinator may be running.
pub async fn replay(data_dir: &Path, id: &str, without: Option<Ablation>) -> Result<Found, Error> {
    let store = SqliteStore::open(None, data_dir).await?;
    let capture = store.capture(id).await?.ok_or_else(|| Error::NoCapture(id.to_owned()))?;
    let topologies = store.topologies(id).await?;
    let (known, batches) = (store.nodes().await?, store.batches(id).await?);
    let translations = store.translations(id).await?;
    store.close().await;
    let directory = files::within(data_dir);
    let outcome = tokio::task::spawn_blocking(move || {
        let mut prepared = job::prepare(&capture, &topologies, &known, &batches, None)?;
        translated::add(&mut prepared.job, &translations);
        let memory = limits::CORRELATION_MEMORY_BYTES;
        let means = Means { memory, scratch: directory.clone(), without };
        run::run(prepared, &capture, &batches, &Files::in_directory(directory), means)
    });
    Ok(Found::new(outcome.await.map_err(|e| Error::Internal(format!("the correlation broke off: {e}")))??))
}
