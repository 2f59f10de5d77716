//! What lies in the store.

use lastseen_proto::v1;

use crate::retention::inventory::{Examined, Finding};

/// The message of a look at the store.
pub fn message(examined: Examined) -> v1::CheckStorageResponse {
    let Examined { database, place, inventory } = examined;
    v1::CheckStorageResponse {
        database,
        place,
        files: inventory.files,
        bytes: inventory.bytes,
        files_without_rows: Some(finding(inventory.without_row)),
        rows_without_files: Some(finding(inventory.missing)),
    }
}

fn finding(finding: Finding) -> v1::StorageFinding {
    let Finding { count, bytes, examples } = finding;
    v1::StorageFinding { count, bytes, examples }
}
