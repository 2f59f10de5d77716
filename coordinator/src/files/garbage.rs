//! Files that a crash left between the write and the commit.

use std::collections::BTreeSet;
use std::path::Path;

use super::FileError;

/// Removes every observation file below `directory` that is not in `known`, as (capture, file). Returns how many.
pub fn collect(directory: &Path, known: &BTreeSet<(String, String)>) -> Result<usize, FileError> {
    let mut removed = 0;
    for capture in list(directory)? {
        let path = directory.join(&capture);
        if !path.is_dir() {
            continue;
        }
        for file in list(&path)? {
            let is_ours = Path::new(&file).extension().is_some_and(|extension| extension == "obs");
            if is_ours && !known.contains(&(capture.clone(), file.clone())) {
                let file = path.join(file);
                std::fs::remove_file(&file).map_err(FileError::io(&file, "remove"))?;
                removed += 1;
            }
        }
        if list(&path)?.is_empty() {
            std::fs::remove_dir(&path).map_err(FileError::io(&path, "remove"))?;
        }
    }
    Ok(removed)
}

fn list(directory: &Path) -> Result<Vec<String>, FileError> {
    let entries = std::fs::read_dir(directory).map_err(FileError::io(directory, "list"))?;
    entries
        .map(|entry| Ok(entry.map_err(FileError::io(directory, "list"))?.file_name()))
        .filter_map(|name| name.map(|name| name.into_string().ok()).transpose())
        .collect()
}
