//! The files that say who this caller is.

use std::path::Path;
use std::time::SystemTime;

use lastseen_runtime::certificate::days_left_if_soon;
use lastseen_runtime::identity::Role;
use lastseen_runtime::tls::Pki;

use super::check::Check;
use crate::cli::Global;
use crate::{pki, rpc};

const DAY: u64 = 86_400;

pub(super) fn examine(global: &Global, now: SystemTime) -> (Vec<Check>, Option<Pki>) {
    let dir = match rpc::pki_dir(global) {
        Ok(dir) => dir,
        Err(error) => {
            let next = "give --pki-dir DIR; make one with `ctl pki issue CA operator NAME --out DIR`";
            return (vec![Check::fail("credentials", error.to_string(), next)], None);
        }
    };
    let pki = match Pki::open(dir) {
        Ok(pki) => pki,
        Err(error) => {
            let next = format!("make them with `ctl pki issue CA operator NAME --out {}`", dir.display());
            return (vec![Check::fail("credentials", error.to_string(), next)], None);
        }
    };
    let checks = vec![
        Check::pass("credentials", format!("{} in {}", pki.identity(), dir.display())),
        key_permissions(dir),
        expiry(pki.not_after(), now),
        role(pki.identity().role),
    ];
    (checks, Some(pki))
}

fn key_permissions(dir: &Path) -> Check {
    let (name, key) = ("key permissions", dir.join("tls.key"));
    match pki::is_private(&key) {
        Ok(true) => Check::pass(name, "only you can read tls.key"),
        Ok(false) => Check::fail(
            name,
            "others can read tls.key",
            format!("chmod 600 {}; if it leaked, issue a new one", key.display()),
        ),
        Err(error) => Check::fail(name, format!("{}: {error}", key.display()), "check the file"),
    }
}

fn expiry(not_after: SystemTime, now: SystemTime) -> Check {
    let (name, next) = (
        "certificate expiry",
        "issue a new one into the same directory with `ctl pki issue CA ROLE NAME --out DIR`",
    );
    match not_after.duration_since(now) {
        Err(_) => Check::fail(name, "expired", next),
        Ok(left) => match days_left_if_soon(not_after, now) {
            Some(days) => Check::warn(name, format!("expires in {days} days"), next),
            None => Check::pass(name, format!("{} days left", left.as_secs() / DAY)),
        },
    }
}

fn role(role: Role) -> Check {
    match role {
        Role::Operator => Check::pass("role", "operator: may run captures"),
        Role::Viewer => Check::pass("role", "viewer: may read, not run captures"),
        Role::Agent | Role::Coordinator => Check::fail(
            "role",
            format!("{}: is not let in as a caller", role.as_str()),
            "use an operator's or viewer's directory: `ctl pki issue CA operator NAME --out DIR`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Status;
    use super::*;

    #[test]
    fn expiry_warns_two_weeks_ahead() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let in_days = |days: u64| expiry(now + Duration::from_secs(days * DAY), now).status;
        assert_eq!([in_days(15), in_days(14), in_days(13)], [Status::Pass, Status::Pass, Status::Warn]);
        assert_eq!(expiry(now - Duration::from_secs(1), now).status, Status::Fail);
    }

    #[test]
    fn agents_are_no_callers() {
        assert_eq!(role(Role::Agent).status, Status::Fail);
        assert_eq!(role(Role::Viewer).status, Status::Pass);
    }
}
