use std::collections::BTreeMap;

use super::*;
use crate::model::CheckedBatch;
use crate::store::Placed;

/// Both kinds of place in a directory of the test's own.
async fn places(home: &Path) -> [Files; 2] {
    let url = format!("file://{}/objects", home.display());
    let objects = Files::open(Some(&url), &Environment::of([]), home.to_owned()).await.unwrap();
    [Files::in_directory(prepare(home).unwrap()), objects]
}

async fn write(writer: &mut FileWriter, batches: &[CheckedBatch]) -> Vec<Placed> {
    let mut captures = BTreeMap::<_, Vec<_>>::new();
    for batch in batches {
        captures.entry(batch.key.capture.clone()).or_default().push(batch.clone());
    }
    let mut written = writer.write(captures).await;
    written.sort_by(|a, b| a.capture.cmp(&b.capture));
    written.into_iter().flat_map(|written| written.placed.unwrap()).collect()
}

/// What is read back, in order.
async fn read(files: &Files, capture: &str, placed: &[Placed]) -> Vec<Result<Vec<u8>, String>> {
    let (files, capture) = (files.clone(), capture.to_owned());
    let stored: Vec<_> = placed.iter().map(StoredBatch::sample).collect();
    let read = move || {
        let batches = files.reader(&capture, &stored);
        batches.map(|batch| batch.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string())).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn groups_of_several_captures_are_read_back() {
    let home = tempfile::tempdir().unwrap();
    for files in places(home.path()).await {
        let mut writer = files.writer();
        let batch = CheckedBatch::sample;
        let first = write(&mut writer, &[batch("c-1", 0, b"one"), batch("c-2", 0, b"two")]).await;
        let many: Vec<_> = (1..100).map(|n| batch("c-1", n, n.to_string().as_bytes())).collect();
        let second = write(&mut writer, &many).await;
        let placed: Vec<_> = second.iter().rev().chain(&first[..1]).cloned().collect();
        let expected = (1..100).rev().map(|n| Ok(n.to_string().into_bytes())).chain([Ok(b"one".to_vec())]);
        assert_eq!(read(&files, "c-1", &placed).await, expected.collect::<Vec<_>>(), "{files}");
        assert_eq!(read(&files, "c-2", &first[1..]).await, [Ok(b"two".to_vec())]);
    }
}

#[tokio::test]
async fn no_process_writes_to_the_file_of_another() {
    let home = tempfile::tempdir().unwrap();
    for (old, new) in places(home.path()).await.into_iter().zip(places(home.path()).await) {
        let file = async |files: &Files, sequence| {
            let mut writer = files.writer();
            let batch = CheckedBatch::sample("c-1", sequence, b"batch");
            write(&mut writer, &[batch]).await.remove(0).location.file
        };
        let (one, other) = (file(&old, 0).await, file(&new, 1).await);
        assert_ne!(one[..16], other[..16], "{old}");
        assert!(one.starts_with(&format!("{:016x}-", old.incarnation)), "{one}");
    }
}

#[tokio::test]
async fn damage_names_file_and_offset() {
    let home = tempfile::tempdir().unwrap();
    for (files, root) in places(home.path()).await.into_iter().zip(["observations", "objects"]) {
        let batches = [CheckedBatch::sample("c-1", 0, b"a"), CheckedBatch::sample("c-1", 1, b"bcd")];
        let placed = write(&mut files.writer(), &batches).await;
        let path = home.path().join(root).join("c-1").join(&placed[1].location.file);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let found = read(&files, "c-1", &placed).await;
        assert_eq!(found[0], Ok(b"a".to_vec()));
        let error = found[1].as_ref().unwrap_err();
        assert!(error.contains(".obs, offset 17: checksum mismatch") && error.contains(root), "{error}");
        let mut long = placed[..1].to_vec();
        long[0].location.length = crate::limits::BATCH_BYTES as u32 + 1;
        let error = read(&files, "c-1", &long).await.remove(0).unwrap_err();
        assert!(error.contains("offset 8: the committed length is not one a batch has"), "{error}");
        std::fs::write(&path, &bytes[..20]).unwrap();
        let error = read(&files, "c-1", &placed[1..]).await.remove(0).unwrap_err();
        assert!(error.contains("offset 17: the file ends inside"), "{error}");
        std::fs::write(&path, b"something else that is long enough").unwrap();
        assert!(read(&files, "c-1", &placed).await.into_iter().all(|read| read.is_err()));
        std::fs::remove_file(&path).unwrap();
        let error = read(&files, "c-1", &placed).await.remove(0).unwrap_err();
        assert!(error.contains(&placed[0].location.file), "{error}");
    }
}

#[tokio::test]
async fn what_is_listed_can_be_removed() {
    let home = tempfile::tempdir().unwrap();
    for (files, root) in places(home.path()).await.into_iter().zip(["observations", "objects"]) {
        let mut writer = files.writer();
        write(
            &mut writer,
            &[CheckedBatch::sample("c-1", 0, b"keep"), CheckedBatch::sample("c-2", 0, b"drop")],
        )
        .await;
        writer.close("c-1");
        write(&mut writer, &[CheckedBatch::sample("c-1", 1, b"drop this")]).await;
        let mut listed = files.list("c-1").await.unwrap();
        listed.sort_by_key(|listed| listed.bytes);
        assert_eq!(listed.iter().map(|listed| listed.bytes).collect::<Vec<_>>(), [20, 25]);
        let age = listed[1].modified.elapsed().unwrap_or_default();
        assert!(age.as_secs() < 3_600, "{age:?}");
        let gone = vec![listed[1].file.clone(), "gone.obs".to_owned()];
        files.remove("c-1", gone).await.unwrap();
        assert_eq!(files.list("c-1").await.unwrap(), listed[..1]);
        files.remove_capture("c-2").await.unwrap();
        files.remove_capture("c-2").await.unwrap();
        assert_eq!(files.captures().await.unwrap(), ["c-1"]);
        assert!(!home.path().join(root).join("c-2").exists());
        assert_eq!(files.list("c-2").await.unwrap(), []);
    }
}
