//! The way of new batches to stable storage, wherever that is.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use tokio::task::JoinSet;

use super::append::Appender;
use super::objects::Objects;
use super::{FileError, record};
use crate::model::CheckedBatch;
use crate::store::{Location, Placed};

/// Writes batches, group by group.
#[derive(Debug)]
pub struct FileWriter(Way);

#[derive(Debug)]
enum Way {
    Directory { directory: PathBuf, incarnation: u64, appender: Appender },
    Objects { objects: Objects, incarnation: u64, next: u64 },
}

/// What became of the batches of one capture in a group.
#[derive(Debug)]
pub struct Written {
    /// Its id.
    pub capture: String,
    /// When writing began. What is committed long after that may have been taken for garbage.
    pub begun: Instant,
    /// The batches, on stable storage; or why none of them counts.
    pub placed: Result<Vec<Placed>, FileError>,
}

impl FileWriter {
    pub(super) fn to_directory(directory: PathBuf, incarnation: u64) -> Self {
        let appender = Appender::new(directory.clone(), incarnation);
        Self(Way::Directory { directory, incarnation, appender })
    }

    pub(super) fn to_objects(objects: Objects, incarnation: u64) -> Self {
        Self(Way::Objects { objects, incarnation, next: 0 })
    }

    /// Writes the batches of each capture by themselves, so that what breaks one holds up no other.
    pub async fn write(&mut self, captures: BTreeMap<String, Vec<CheckedBatch>>) -> Vec<Written> {
        match &mut self.0 {
            Way::Directory { .. } => {
                let mut written = Vec::with_capacity(captures.len());
                for (capture, batches) in captures {
                    let begun = Instant::now();
                    let placed = self.append(&capture, batches).await;
                    written.push(Written { capture, begun, placed });
                }
                written
            }
            Way::Objects { objects, incarnation, next } => {
                let mut puts = Puts::default();
                for (capture, batches) in captures {
                    let file = record::file_name(*incarnation, *next);
                    puts.spawn(capture.clone(), put(objects.clone(), capture, file, batches));
                    *next += 1;
                }
                puts.join().await
            }
        }
    }

    /// Writes no more to the file that is open for a capture.
    pub fn close(&mut self, capture: &str) {
        if let Way::Directory { appender, .. } = &mut self.0 {
            appender.close(capture);
        }
    }

    async fn append(&mut self, capture: &str, batches: Vec<CheckedBatch>) -> Result<Vec<Placed>, FileError> {
        let capture = capture.to_owned();
        self.on_files(move |appender| {
            let locations = appender.append(&capture, &batches)?;
            Ok(place(batches, locations))
        })
        .await?
    }

    /// Runs `work` where it may block. If it panics, what it had open is not written to again.
    async fn on_files<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Appender) -> T + Send + 'static,
    ) -> Result<T, FileError> {
        let Way::Directory { directory, incarnation, appender } = &mut self.0 else {
            return Err(FileError::Broken("there is no directory".to_owned()));
        };
        let unused = Appender::new(directory.clone(), *incarnation);
        let mut taken = std::mem::replace(appender, unused);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut taken);
            (taken, result)
        });
        let (taken, result) = done.await.map_err(|error| FileError::Broken(error.to_string()))?;
        *appender = taken;
        Ok(result)
    }
}

/// Writes that are under way, and whose batches each has.
#[derive(Default)]
struct Puts {
    tasks: JoinSet<Written>,
    captures: HashMap<tokio::task::Id, String>,
}

impl Puts {
    fn spawn(&mut self, capture: String, put: impl Future<Output = Written> + Send + 'static) {
        self.captures.insert(self.tasks.spawn(put).id(), capture);
    }

    /// Waits for all. One that panics has failed, and no other with it.
    async fn join(mut self) -> Vec<Written> {
        let mut written = Vec::with_capacity(self.captures.len());
        while let Some(done) = self.tasks.join_next().await {
            written.push(done.unwrap_or_else(|error| Written {
                capture: self.captures.remove(&error.id()).unwrap_or_default(),
                begun: Instant::now(),
                placed: Err(FileError::Broken(error.to_string())),
            }));
        }
        written
    }
}

async fn put(objects: Objects, capture: String, file: String, batches: Vec<CheckedBatch>) -> Written {
    let begun = Instant::now();
    let placed = objects.put(&capture, &file, &batches).await;
    Written { capture, begun, placed: placed.map(|locations| place(batches, locations)) }
}

fn place(batches: Vec<CheckedBatch>, locations: Vec<Location>) -> Vec<Placed> {
    batches.into_iter().zip(locations).map(|(batch, location)| Placed { batch, location }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_writing_fails_that_and_nothing_after_it() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = FileWriter::to_directory(home.path().to_owned(), 1);
        let group = || BTreeMap::from([("c-1".to_owned(), vec![CheckedBatch::sample("c-1", 0, b"batch")])]);
        assert!(writer.write(group()).await.remove(0).placed.is_ok());
        let broken = writer.on_files(|_| -> () { panic!("a defect") }).await.unwrap_err().to_string();
        assert!(broken.contains("broke off") && broken.contains("a defect"), "{broken}");
        assert!(writer.write(group()).await.remove(0).placed.is_ok());
    }

    #[tokio::test]
    async fn a_panic_while_an_object_is_written_fails_its_capture_and_no_other() {
        let mut puts = Puts::default();
        let done = Written { capture: "c-1".into(), begun: Instant::now(), placed: Ok(Vec::new()) };
        puts.spawn("c-1".into(), async { done });
        puts.spawn("c-2".into(), async { panic!("a defect") });
        let mut written = puts.join().await;
        written.sort_by(|a, b| a.capture.cmp(&b.capture));
        assert!(written[0].capture == "c-1" && written[0].placed.is_ok());
        let broken = written[1].placed.as_ref().unwrap_err().to_string();
        assert!(written[1].capture == "c-2" && broken.contains("a defect"), "{broken}");
    }
}
