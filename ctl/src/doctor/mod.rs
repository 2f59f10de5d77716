//! Checks of this machine's credentials and of the fabric, each with the next step where it fails.

mod check;
mod credentials;
mod fabric;
mod storage;

pub use check::{Check, Status};

use crate::cli::Global;

/// Every check that can be made; one that needs what failed before it is left out.
pub async fn examine(global: &Global) -> Vec<Check> {
    let (mut checks, pki) = credentials::examine(global, std::time::SystemTime::now());
    if let Some(pki) = pki {
        checks.extend(fabric::examine(global, &pki).await);
    }
    checks
}
