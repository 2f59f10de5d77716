//! An agent's certificate ends while its streams are open, and is renewed after they were cut.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_trait::async_trait;
use lastseen_runtime::tls::Pki;
use rand::rngs::StdRng;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::client::until;
use super::fleet::Fleet;
use super::strike::{Fault, Plan};
use crate::scripted::script;

/// How long the certificate lasts once the agent has it; X.509 counts in seconds.
const LASTS: Duration = Duration::from_secs(4);
/// How long the agent is left without one that is valid.
const WITHOUT: Duration = Duration::from_secs(1);

/// The first node's certificate.
#[derive(Debug, Clone, Copy)]
pub struct Expired;

#[async_trait(?Send)]
impl Fault for Expired {
    fn name(&self) -> String {
        "certificate expired mid-stream".to_owned()
    }

    fn rounds(&self) -> u64 {
        10
    }

    async fn strike(&self, fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        let end = SystemTime::now() + LASTS;
        renew(fleet, OffsetDateTime::from(end))?;
        // Every connection from now on is made with it.
        fleet.cut(0);
        until("the end of the certificate", async || Ok((SystemTime::now() > end).then_some(()))).await?;
        fleet.cut(0);
        sleep(WITHOUT).await;
        renew(fleet, OffsetDateTime::from(end + Duration::from_hours(24)))
    }
}

/// Puts another certificate where the agent, and the witness in its name, look for it.
fn renew(fleet: &Fleet, not_after: OffsetDateTime) -> Result<()> {
    let uri = format!("spiffe://lastseen/agent/{}", script::name(0));
    let (new, used): (Pki, Pki) = (fleet.authority.issue_until(&uri, not_after), fleet.identity(0));
    for file in ["tls.key", "tls.crt"] {
        let to = used.dir().join(file);
        std::fs::copy(new.dir().join(file), &to).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}
