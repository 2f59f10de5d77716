//! From a URL and the environment to an object store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::FileError;

const EXAMPLE: &str =
    "give file:///DIRECTORY, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
/// Longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that idles for so long is closed.
const IDLE: Duration = Duration::from_secs(2);

/// What the environment says of object stores. Its values are secrets and printed nowhere.
#[derive(Clone)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// These variables.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The variables of one provider, in lower case as its configuration names them.
    fn starting_with(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let variables = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        variables.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}

/// The variables of this process.
impl Default for Environment {
    fn default() -> Self {
        let variables = std::env::vars_os();
        Self::of(
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    Local,
    S3,
    Google,
    Azure,
}

/// A URL that was understood.
#[derive(Clone, Debug)]
pub(super) struct Target {
    provider: Provider,
    /// Bucket, container or directory.
    container: String,
    /// Before every name.
    pub(super) prefix: Path,
    /// As it may be shown.
    pub(super) url: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, FileError> {
        let refused = |reason: String| FileError::Target { reason, advice: EXAMPLE };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("there is no ://".to_owned()))?;
        let provider = match scheme {
            "file" => Provider::Local,
            "s3" => Provider::S3,
            "gs" => Provider::Google,
            "az" => Provider::Azure,
            // The rest may carry a password: only the scheme is repeated.
            other => return Err(refused(format!("{other}:… is not supported"))),
        };
        if provider == Provider::Local {
            return Self::directory(rest).ok_or_else(|| refused("file:// needs an absolute path".to_owned()));
        }
        let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if container.is_empty() || !container.chars().all(is_plain) {
            let reason = format!("{scheme}:… does not name a bucket; credentials belong in the environment");
            return Err(refused(reason));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.contains(['?', '#', '@']) {
            return Err(refused(format!("{scheme}://{container}/… has ?, # or @ in it")));
        }
        let prefix =
            Path::parse(prefix).map_err(|error| refused(format!("{scheme}://{container}: {error}")))?;
        let separator = if prefix.as_ref().is_empty() { "" } else { "/" };
        let url = format!("{scheme}://{container}{separator}{prefix}");
        Ok(Self { provider, container: container.to_owned(), prefix, url })
    }

    fn directory(path: &str) -> Option<Self> {
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        path.starts_with('/').then(|| Self {
            provider: Provider::Local,
            container: path.to_owned(),
            prefix: Path::default(),
            url: format!("file://{path}"),
        })
    }

    /// The directory that it is on this machine, if it is one.
    pub(super) fn root(&self) -> Option<PathBuf> {
        (self.provider == Provider::Local).then(|| PathBuf::from(&self.container))
    }

    /// A client that tries a request again for as long as `patience`.
    pub(super) fn connect(
        &self,
        environment: &Environment,
        patience: Duration,
    ) -> Result<Arc<dyn ObjectStore>, FileError> {
        // Its client takes the provider of the process.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        self.build(environment, patience).map_err(|error| FileError::Target {
            reason: format!("{}: {error}", self.url),
            advice: "look at the AWS_…, GOOGLE_… or AZURE_… variables in its environment",
        })
    }

    fn build(
        &self,
        environment: &Environment,
        patience: Duration,
    ) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        let backoff = BackoffConfig { max_backoff: PAUSE, ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: patience };
        let (container, settings) = (self.container.as_str(), |prefix| environment.starting_with(prefix));
        Ok(match self.provider {
            Provider::Local => {
                std::fs::create_dir_all(container).map_err(|error| object_store::Error::Generic {
                    store: "directory",
                    source: Box::new(error),
                })?;
                let local = LocalFileSystem::new_with_prefix(container)?;
                Arc::new(local.with_fsync(true).with_automatic_cleanup(true))
            }
            Provider::S3 => {
                let with = |builder: AmazonS3Builder, key: AmazonS3ConfigKey, value: &str| {
                    builder.with_config(key, value)
                };
                let builder =
                    configured(AmazonS3Builder::new().with_client_options(client()), settings("AWS_"), with);
                Arc::new(builder.with_bucket_name(container).with_retry(retry).build()?)
            }
            Provider::Google => {
                let with = |builder: GoogleCloudStorageBuilder, key: GoogleConfigKey, value: &str| {
                    builder.with_config(key, value)
                };
                let builder = configured(
                    GoogleCloudStorageBuilder::new().with_client_options(client()),
                    settings("GOOGLE_"),
                    with,
                );
                Arc::new(builder.with_bucket_name(container).with_retry(retry).build()?)
            }
            Provider::Azure => {
                let with = |builder: MicrosoftAzureBuilder, key: AzureConfigKey, value: &str| {
                    builder.with_config(key, value)
                };
                let builder = MicrosoftAzureBuilder::new().with_client_options(client());
                let identity = settings("IDENTITY_ENDPOINT").map(|(_, value)| value);
                let builder =
                    identity.fold(builder, |builder, value| builder.with_msi_endpoint(value.to_owned()));
                let builder = configured(builder, settings("AZURE_"), with);
                Arc::new(builder.with_container_name(container).with_retry(retry).build()?)
            }
        })
    }
}

/// A request on a connection that the server closes at that moment is not tried again: none is used once it has idled
/// nearly as long as servers let it, five seconds with the least patient.
fn client() -> ClientOptions {
    ClientOptions::new().with_pool_idle_timeout(IDLE)
}

/// Sets what the provider knows; other variables that begin as its own are somebody else's.
fn configured<'a, B, K: FromStr>(
    builder: B,
    settings: impl Iterator<Item = (String, &'a str)>,
    with: impl Fn(B, K, &str) -> B,
) -> B {
    let known = settings.filter_map(|(name, value)| Some((name.parse().ok()?, value)));
    known.fold(builder, |builder, (key, value)| with(builder, key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn urls_name_a_container_and_a_prefix() {
        for (url, shown, prefix) in [
            ("s3://fabric", "s3://fabric", ""),
            ("s3://fabric/", "s3://fabric", ""),
            ("gs://fabric/a/b/", "gs://fabric/a/b", "a/b"),
            ("az://fabric/a", "az://fabric/a", "a"),
            ("file:///var/lib/x/", "file:///var/lib/x", ""),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.url.as_str(), target.prefix.as_ref()), (shown, prefix));
        }
    }

    #[test]
    fn what_is_no_place_is_refused_and_not_repeated() {
        for url in [
            "fabric",
            "ftp://me:secret@host/x",
            "s3://",
            "s3://me:secret@fabric/x",
            "s3://fabric/x?key=secret",
            "file://relative/secret",
            "s3://fabric/a/../secret",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.starts_with("--object-store: ") && error.ends_with(EXAMPLE), "{error}");
            assert!(url.contains("..") || !error.contains("secret"), "{error}");
        }
    }

    /// No server is asked.
    #[test]
    fn each_provider_is_configured_from_its_own_variables() {
        let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;
        let environment = environment(&[
            ("AWS_ACCESS_KEY_ID", "me"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_PAGER", "less"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", key),
            ("AZURE_STORAGE_ACCOUNT_NAME", "me"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"),
        ]);
        for url in ["s3://fabric/x", "gs://fabric/x", "az://fabric/x"] {
            let store = Target::parse(url).unwrap().connect(&environment, PATIENCE).unwrap();
            assert!(store.to_string().contains("fabric"), "{store}");
        }
        assert!(!format!("{environment:?}").contains("secret"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let refusal = |url: &str, variables: &[(&str, &str)]| {
            let target = Target::parse(url).unwrap();
            target.connect(&environment(variables), PATIENCE).unwrap_err().to_string()
        };
        let error = refusal("az://fabric", &[]);
        assert!(error.starts_with("--object-store: az://fabric: ") && error.contains("AZURE_"), "{error}");
        let error = refusal("gs://fabric", &[("GOOGLE_SERVICE_ACCOUNT", "/nowhere/secret.json")]);
        assert!(error.starts_with("--object-store: gs://fabric: "), "{error}");
        let error = refusal("s3://fabric", &[("AWS_ALLOW_HTTP", "maybe")]);
        assert!(error.starts_with("--object-store: s3://fabric: "), "{error}");
    }
}
