//! Flags, environment and file.

use std::path::PathBuf;

use lastseen_runtime::telemetry::LogFormat;

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
    /// Directory for the database and the observation files
    #[arg(long, env = "LASTSEEN_DATA_DIR", default_value = "/var/lib/lastseen", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Database; without it, `lastseen.db` in the data directory
    #[arg(long, env = "LASTSEEN_DATABASE_URL", value_name = "sqlite://PATH")]
    pub database_url: Option<String>,
    /// Memory for the observations of a correlation run, in bytes; more than that goes to a file without a name in the
    /// data directory and takes the run longer
    #[arg(long, env = "LASTSEEN_CORRELATION_MEMORY_BYTES", value_name = "BYTES",
          default_value_t = limits::CORRELATION_MEMORY_BYTES, value_parser = clap::value_parser!(u64).range(16 << 20..))]
    pub correlation_memory_bytes: u64,
    /// Directory with ca.crt, tls.crt and tls.key
    #[arg(long, env = "LASTSEEN_PKI_DIR", default_value = "/etc/lastseen/pki", value_name = "DIR")]
    pub pki_dir: PathBuf,
    /// How log lines look
    #[arg(long, env = "LASTSEEN_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// TOML file that sets the same keys
    #[arg(long, env = "LASTSEEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}
