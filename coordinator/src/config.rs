//! Flags, environment and file.

use std::path::PathBuf;
use std::time::Duration;

use lastseen_runtime::telemetry::LogFormat;
use lastseen_runtime::values;

use crate::files::Environment;
use crate::limits;

/// Correlates what node agents capture and says where packets disappeared.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "coordinator", version, about)]
pub struct Config {
    /// Address for agents and operators, gRPC over mutual TLS
    #[arg(long, env = "LASTSEEN_LISTEN", default_value = "127.0.0.1:7443", value_name = "HOST:PORT")]
    pub listen: String,
    /// Address for /metrics, /healthz and /readyz, plain HTTP
    #[arg(long, env = "LASTSEEN_ADMIN_LISTEN", default_value = "127.0.0.1:7481", value_name = "HOST:PORT")]
    pub admin_listen: String,
    /// Directory for the database, the observation files and scratch space
    #[arg(long, env = "LASTSEEN_DATA_DIR", default_value = "/var/lib/lastseen", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Database; without it, `lastseen.db` in the data directory. The password of Postgres belongs in this variable or in
    /// the file that PGPASSFILE names, not on the command line
    #[arg(
        long,
        env = "LASTSEEN_DATABASE_URL",
        value_name = "sqlite://PATH|postgres://USER@HOST/NAME",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Memory for the observations of a correlation run, in bytes; more than that goes to a file without a name in the
    /// data directory and takes the run longer
    #[arg(long, env = "LASTSEEN_CORRELATION_MEMORY_BYTES", value_name = "BYTES",
          default_value_t = limits::CORRELATION_MEMORY_BYTES, value_parser = clap::value_parser!(u64).range(16 << 20..))]
    pub correlation_memory_bytes: u64,
    /// Where observation files lie; without it, in the data directory. Credentials come from the variables AWS_…, GOOGLE_…
    /// and AZURE_… that the providers define, and from nowhere else
    #[arg(
        long,
        env = "LASTSEEN_OBJECT_STORE",
        value_name = "file:///DIR|s3://BUCKET/PREFIX|gs://BUCKET/PREFIX|az://CONTAINER/PREFIX"
    )]
    pub object_store: Option<String>,
    /// What the environment says of the object store
    #[arg(skip)]
    pub object_store_environment: Environment,
    /// Captures that ended longer ago are deleted, with their observations and reports
    #[arg(long, env = "LASTSEEN_RETENTION_AGE", default_value = "30d", value_name = "TIME", value_parser = values::duration)]
    pub retention_age: Duration,
    /// While there are more bytes of observations, the capture that ended first is deleted; without it there is no such
    /// limit
    #[arg(long, env = "LASTSEEN_RETENTION_BYTES", value_name = "BYTES", value_parser = values::bytes)]
    pub retention_bytes: Option<u64>,
    /// Directory with ca.crt, tls.crt and tls.key
    #[arg(long, env = "LASTSEEN_PKI_DIR", default_value = "/etc/lastseen/pki", value_name = "DIR")]
    pub pki_dir: PathBuf,
    /// TOML file with the lists payload (identities that may capture payload), deny-names and deny-serials (certificates
    /// that are refused); each change of it comes into force within half a second
    #[arg(long, env = "LASTSEEN_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// API server of Kubernetes that `ctl check-host` and `check-path` fetch from every node unless they name another; in a
    /// pod `https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)/version`
    #[arg(long, env = "LASTSEEN_API_SERVER", value_name = "URL")]
    pub api_server: Option<String>,
    /// PEM file with the certificates to trust for it, in a pod /var/run/secrets/kubernetes.io/serviceaccount/ca.crt;
    /// without it, those that browsers trust
    #[arg(long, env = "LASTSEEN_API_SERVER_CA", value_name = "FILE", requires = "api_server")]
    pub api_server_ca: Option<PathBuf>,
    /// How log lines look
    #[arg(long, env = "LASTSEEN_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// OpenTelemetry collector that traces go to, OTLP over gRPC; also the standard `OTEL_EXPORTER_OTLP_ENDPOINT`. Without
    /// one nothing is traced
    #[arg(long, env = "LASTSEEN_OTLP_ENDPOINT", value_name = "http://HOST:PORT")]
    pub otlp_endpoint: Option<String>,
    /// TOML file that sets the same keys
    #[arg(long, env = "LASTSEEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_does_not_show_the_password_in_the_environment() {
        let command = Config::command();
        let url = command.get_arguments().find(|argument| argument.get_id() == "database_url").unwrap();
        assert!(url.is_hide_env_values_set());
    }
}
