//! What certificates alone do not decide, from a file: who may capture payload, and whose certificates are good no more.
//! The file is looked at while the coordinator runs. One that cannot be used leaves the policy before it in force.

use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use lastseen_runtime::certificate::{DenyList, Serial};
use lastseen_runtime::config::unreadable;
use lastseen_runtime::identity::Identity;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::metrics::Metrics;

/// A policy file that cannot be used: where, what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct PolicyError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The keys of the file. Each is a list and may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    /// Identities that may capture more of packets than their headers.
    payload: Vec<String>,
    /// Identities that are refused.
    deny_names: Vec<String>,
    /// Serial numbers of certificates that are refused, in hexadecimal digits.
    deny_serials: Vec<String>,
    /// Networks that probes may go to.
    probe_networks: Vec<String>,
}

/// The policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    payload: HashSet<Identity>,
    denied: DenyList,
    probe_networks: Vec<IpNet>,
}

impl Policy {
    /// Whether `identity` may capture more of packets than their headers.
    pub fn allows_payload(&self, identity: &Identity) -> bool {
        self.payload.contains(identity)
    }

    /// Networks that probes may go to; none: all but what agents refuse by themselves.
    pub fn probe_networks(&self) -> &[IpNet] {
        &self.probe_networks
    }

    /// Whom the coordinator refuses.
    pub fn denied(&self) -> &DenyList {
        &self.denied
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| unreadable(text, &error))?;
        let mut mistakes = Vec::new();
        let mut names = |key: &str, given: &[String]| {
            let read = |uri: &String| {
                let refused = |error| mistakes.push(format!("{key}: {error}"));
                Identity::from_uri(uri).map_err(refused).ok()
            };
            given.iter().filter_map(read).collect::<HashSet<_>>()
        };
        let payload = names("payload", &file.payload);
        let denied = names("deny-names", &file.deny_names);
        let read = |given: &String| {
            let refused = |error| mistakes.push(format!("deny-serials: {given:?} {error}"));
            given.parse::<Serial>().map_err(refused).ok()
        };
        let serials = file.deny_serials.iter().filter_map(read).collect();
        let read = |given: &String| {
            let refused = |error| {
                mistakes.push(format!("probe-networks: {given:?} {error}; give 10.0.0.0/8 for example"));
            };
            given.parse::<IpNet>().map_err(refused).ok()
        };
        let probe_networks = file.probe_networks.iter().filter_map(read).collect();
        if mistakes.is_empty() {
            Ok(Self { payload, denied: DenyList { names: denied, serials }, probe_networks })
        } else {
            Err(mistakes.join("; "))
        }
    }
}

/// The policy file and what is in force of it.
#[derive(Debug)]
pub struct PolicyFile {
    path: Option<PathBuf>,
    current: watch::Sender<Arc<Policy>>,
    /// What is wrong with the file as it is now.
    trouble: watch::Sender<Option<PolicyError>>,
    metrics: Metrics,
}

impl PolicyFile {
    /// Reads `path`, which must be usable. Without a path nobody may capture payload and nobody is denied.
    pub fn open(path: Option<&Path>, metrics: Metrics) -> Result<Self, PolicyError> {
        let policy = path.map(read).transpose()?.unwrap_or_default();
        let (current, trouble) = (watch::channel(policy.into()).0, watch::channel(None).0);
        Ok(Self { path: path.map(Path::to_owned), current, trouble, metrics })
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<Policy> {
        self.current.borrow().clone()
    }

    /// What is in force, and each change of it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.current.subscribe()
    }

    /// Where the policy comes from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Why the file as it is now is not in force.
    pub fn trouble(&self) -> Option<PolicyError> {
        self.trouble.borrow().clone()
    }

    /// Takes over each change of the file until `stopping`.
    pub async fn follow(&self, stopping: CancellationToken) {
        let Some(path) = &self.path else { return };
        // What changed between the first reading and now is read once more. A file that is still being written is left
        // until it rests: half of a deny list would let the other half in.
        let (mut last, mut taken) = (None, None);
        let mut ticks = tokio::time::interval(limits::POLICY_INTERVAL);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = Some(stamp(path));
            if now == last && now != taken {
                taken = now;
                self.take(read(path));
            }
            last = now;
        }
    }

    fn take(&self, read: Result<Policy, PolicyError>) {
        self.metrics.policy_stale.set(i64::from(read.is_err()));
        match read {
            Ok(policy) => {
                let is_other = self.current.borrow().as_ref() != &policy;
                if is_other {
                    let (payload, denied) = (policy.payload.len(), policy.denied.clone());
                    tracing::info!(
                        payload,
                        names = denied.names.len(),
                        serials = denied.serials.len(),
                        "policy in force"
                    );
                    self.current.send_replace(policy.into());
                }
                self.trouble.send_replace(None);
            }
            Err(error) => {
                tracing::error!(%error, "policy file not taken over; the policy before it stays in force");
                self.trouble.send_replace(Some(error));
            }
        }
    }
}

/// Differs when the file was replaced or rewritten; absent while there is none.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
}

fn read(path: &Path) -> Result<Policy, PolicyError> {
    let error = |reason: String| PolicyError { path: path.display().to_string(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    let most = limits::POLICY_BYTES;
    let length = file.take(most + 1).read_to_string(&mut text);
    let length = length.map_err(|e| error(format!("cannot be read: {e}")))?;
    if length as u64 > most {
        return Err(error(format!("is larger than the limit of {most} bytes")));
    }
    Policy::parse(&text).map_err(error)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    const ALICE: &str = "spiffe://lastseen/operator/alice";

    fn alice() -> Identity {
        Identity::from_uri(ALICE).unwrap()
    }

    #[test]
    fn a_policy_says_who_may_and_who_is_out() {
        let text = format!(
            "payload = ['{ALICE}']\ndeny-names = ['spiffe://lastseen/agent/b']\ndeny-serials = ['0a:1B']"
        );
        let policy = Policy::parse(&text).unwrap();
        assert!(policy.allows_payload(&alice()));
        assert!(!policy.allows_payload(&Identity::from_uri("spiffe://elsewhere/operator/alice").unwrap()));
        let (serial, other): (Serial, Serial) = ("A1B".parse().unwrap(), "A1C".parse().unwrap());
        assert_eq!(policy.denied().covers(Some(&alice()), &serial).as_deref(), Some("serial 0A1B"));
        assert_eq!(policy.denied().covers(Some(&alice()), &other), None);
        let b = Identity::from_uri("spiffe://lastseen/agent/b").unwrap();
        assert_eq!(policy.denied().covers(Some(&b), &other), Some(b.to_string()));
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
    }

    #[test]
    fn every_mistake_is_named() {
        let several =
            "payload = ['alice', 'spiffe://x/operator/ok']\ndeny-names = ['bob']\ndeny-serials = ['xyz']";
        let error = Policy::parse(several).unwrap_err();
        for part in
            ["payload: SAN URI \"alice\"", "deny-names: SAN URI \"bob\"", "deny-serials: \"xyz\" is not"]
        {
            assert!(error.contains(part), "{error}");
        }
        let error = Policy::parse("payload = []\ndeny-name = []").unwrap_err();
        assert!(error.starts_with("line 2: unknown field `deny-name`"), "{error}");
        assert!(Policy::parse("payload = 'spiffe://x/operator/a'").unwrap_err().starts_with("line 1: "));
    }

    #[test]
    fn a_file_that_went_bad_leaves_the_policy_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let metrics = Metrics::register(&mut Registry::default());
        assert!(
            PolicyFile::open(Some(&path), metrics.clone()).unwrap_err().to_string().contains("No such file")
        );
        write(&format!("payload = ['{ALICE}']"));
        let file = PolicyFile::open(Some(&path), metrics.clone()).unwrap();
        let too_long = "#".repeat(limits::POLICY_BYTES as usize + 1);
        for bad in ["payload = [", "colour = 'red'", &too_long] {
            write(bad);
            file.take(read(&path));
            assert!(file.current().allows_payload(&alice()), "{bad:.20}");
            assert!(file.trouble().is_some() && metrics.policy_stale.get() == 1, "{bad:.20}");
        }
        std::fs::remove_file(&path).unwrap();
        file.take(read(&path));
        assert!(file.current().allows_payload(&alice()) && file.trouble().is_some());
        write("");
        file.take(read(&path));
        assert!(!file.current().allows_payload(&alice()));
        assert!(file.trouble().is_none() && metrics.policy_stale.get() == 0);
    }
}
