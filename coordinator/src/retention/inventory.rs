//! Observation files held against the rows that know them.
//!
//! A file is on stable storage before its row, and its row is gone before the file. So rows are read before the list of
//! files and after it: a row of both times without a file is a loss, and a file without a row at the later time is
//! garbage, once it is too old to be a commit under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::error::Error;
use crate::files::{Files, Listed};
use crate::limits;
use crate::store::Store;

const BUSY: &str = "another look at the store is under way; try again in a moment";
/// Names of each kind that are told.
const EXAMPLES: usize = 5;

/// Files that are not as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many.
    pub count: u64,
    /// Their size, of those that have one.
    pub bytes: u64,
    /// Some of them, as `capture/file`.
    pub examples: Vec<String>,
}

impl Finding {
    fn add(&mut self, capture: &str, file: &str, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{capture}/{file}"));
        }
    }
}

/// What lies in the place of observation files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Files without a row that are too old to get one.
    pub without_row: Finding,
    /// Files that rows name and that are not there.
    pub missing: Finding,
}

/// One capture.
struct Compared {
    listed: Vec<Listed>,
    /// Of those listed.
    garbage: Vec<Listed>,
    missing: Vec<String>,
}

/// A look at the store.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What the database is, and its version.
    pub database: String,
    /// Where observation files lie.
    pub place: String,
    /// What lies there.
    pub inventory: Inventory,
}

/// Database and files, to be looked at by one caller at a time.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn Store>,
    files: Files,
    turn: Arc<Mutex<()>>,
}

impl Storage {
    /// Not looked at yet.
    pub fn new(store: Arc<dyn Store>, files: Files) -> Self {
        Self { store, files, turn: Arc::default() }
    }

    /// Looks at the database and at every file.
    pub async fn examine(&self) -> Result<Examined, Error> {
        let _turn = self.turn.try_lock().map_err(|_| Error::Exhausted(BUSY.to_owned()))?;
        let database = self.store.version().await?;
        let inventory = examine(self.store.as_ref(), &self.files, limits::GARBAGE_AGE).await?;
        Ok(Examined { database, place: self.files.to_string(), inventory })
    }
}

/// Looks at every file. Those without a row are garbage when they are older than `garbage_age`.
pub async fn examine(store: &dyn Store, files: &Files, garbage_age: Duration) -> Result<Inventory, Error> {
    let mut inventory = Inventory::default();
    for capture in captures(store, files).await? {
        let compared = compare(store, files, &capture, garbage_age).await?;
        inventory.files += compared.listed.len() as u64;
        inventory.bytes += compared.listed.iter().map(|file| file.bytes).sum::<u64>();
        for file in compared.garbage {
            inventory.without_row.add(&capture, &file.file, file.bytes);
        }
        for file in compared.missing {
            inventory.missing.add(&capture, &file, 0);
        }
    }
    Ok(inventory)
}

/// Removes every file without a row that is older than `garbage_age`, and what is empty then. Returns what went.
pub async fn collect(store: &dyn Store, files: &Files, garbage_age: Duration) -> Result<Finding, Error> {
    let mut removed = Finding::default();
    for capture in files.captures().await? {
        let Compared { listed, garbage, .. } = compare(store, files, &capture, garbage_age).await?;
        for file in &garbage {
            removed.add(&capture, &file.file, file.bytes);
        }
        let is_all = listed.len() == garbage.len();
        if is_all && store.capture(&capture).await?.is_none() {
            files.remove_capture(&capture).await?;
        } else if !garbage.is_empty() {
            files.remove(&capture, garbage.into_iter().map(|file| file.file).collect()).await?;
        }
    }
    Ok(removed)
}

async fn captures(store: &dyn Store, files: &Files) -> Result<BTreeSet<String>, Error> {
    let known = store.ages().await?.into_iter().map(|capture| capture.id);
    Ok(files.captures().await?.into_iter().chain(known).collect())
}

async fn compare(
    store: &dyn Store,
    files: &Files,
    capture: &str,
    garbage_age: Duration,
) -> Result<Compared, Error> {
    let before = store.files(capture).await?;
    let listed = files.list(capture).await?;
    let now = SystemTime::now();
    let after: BTreeSet<String> = store.files(capture).await?.into_iter().collect();
    let there: BTreeSet<&str> = listed.iter().map(|file| file.file.as_str()).collect();
    let is_lost = |file: &String| after.contains(file) && !there.contains(file.as_str());
    let missing = before.into_iter().filter(is_lost).collect();
    // One of the future is young by any clock.
    let is_old = |file: &Listed| now.duration_since(file.modified).is_ok_and(|age| age > garbage_age);
    let garbage: Vec<Listed> =
        listed.iter().filter(|file| !after.contains(&file.file) && is_old(file)).cloned().collect();
    Ok(Compared { listed, garbage, missing })
}
