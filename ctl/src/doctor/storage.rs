//! The coordinator's database and its observation files.

use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::v1::{CheckStorageRequest, CheckStorageResponse, StorageFinding};
use lastseen_runtime::client;
use tonic::Code;
use tonic::transport::Channel;

use super::check::Check;
use crate::output::units;
use crate::rpc;

pub(super) async fn examine(channel: Channel) -> Vec<Check> {
    // It may have to list a large bucket.
    let request = rpc::analysis_request(CheckStorageRequest {});
    match FleetServiceClient::new(channel).check_storage(request).await {
        Ok(answer) => judge(&answer.into_inner()),
        Err(status) => {
            let said = client::explain_status(&status);
            vec![match status.code() {
                Code::Unimplemented => Check::warn(
                    "storage",
                    "the coordinator cannot tell",
                    "update it to the version of this ctl",
                ),
                Code::ResourceExhausted => Check::warn("storage", said, "wait until the other check is done"),
                _ => Check::fail("storage", said, "see the coordinator's log; until then nothing is stored"),
            }]
        }
    }
}

fn judge(found: &CheckStorageResponse) -> Vec<Check> {
    let place = &found.place;
    let mut checks = vec![Check::pass("database", format!("{} answers", found.database))];
    let lost = found.rows_without_files.clone().unwrap_or_default();
    if lost.count > 0 {
        checks.push(Check::fail(
            "lost observation files",
            format!("{} of {place} are gone: {}", count(lost.count), examples(&lost)),
            "restore them from a backup, or delete their captures with `ctl delete-capture`",
        ));
    }
    let left = found.files_without_rows.clone().unwrap_or_default();
    if left.count > 0 {
        checks.push(Check::warn(
            "orphaned observation files",
            format!(
                "{}, {}, in {place} are of no capture: {}",
                count(left.count),
                units::bytes(left.bytes),
                examples(&left)
            ),
            "nothing, the coordinator removes them within the hour; if it does not, its log says why",
        ));
    }
    if lost.count + left.count == 0 {
        let (files, bytes) = (count(found.files), units::bytes(found.bytes));
        checks.push(Check::pass("observation files", format!("{files}, {bytes}, in {place}")));
    }
    checks
}

fn count(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn examples(finding: &StorageFinding) -> String {
    let more = finding.count.saturating_sub(finding.examples.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    finding.examples.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn finding(count: u64) -> StorageFinding {
        let examples = (0..count.min(2)).map(|n| format!("c-1/{n}.obs")).collect();
        StorageFinding { count, bytes: count << 20, examples }
    }

    #[test]
    fn orphans_and_losses_are_told_with_what_to_do() {
        let found = |orphans, lost| CheckStorageResponse {
            database: "SQLite 3.50".into(),
            place: "s3://fabric/x".into(),
            files: 7,
            bytes: 7 << 20,
            files_without_rows: Some(finding(orphans)),
            rows_without_files: Some(finding(lost)),
        };
        let well = judge(&found(0, 0));
        assert_eq!(well.iter().map(|check| check.status).collect::<Vec<_>>(), [Status::Pass; 2]);
        assert_eq!(well[1].detail, "7 files, 7.0 MiB, in s3://fabric/x");
        let orphaned = judge(&found(3, 0)).remove(1);
        assert_eq!(orphaned.status, Status::Warn);
        let expected =
            "3 files, 3.0 MiB, in s3://fabric/x are of no capture: c-1/0.obs, c-1/1.obs and 1 more";
        assert_eq!(orphaned.detail, expected);
        let lost = judge(&found(1, 1));
        assert_eq!(
            lost.iter().map(|check| check.status).collect::<Vec<_>>(),
            [Status::Pass, Status::Fail, Status::Warn]
        );
        assert_eq!(lost[1].detail, "1 file of s3://fabric/x are gone: c-1/0.obs");
        assert!(lost[1].next_step.contains("delete-capture"));
    }
}
