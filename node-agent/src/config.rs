//! The agent's settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use lastseen_runtime::telemetry::LogFormat;

use crate::job::spec::Backend;
use crate::spool::Fsync;

/// Captures packets on this node in windows that the coordinator sets, and delivers what it saw.
///
/// Needs `NET_RAW`; what else is missing is reported to the coordinator and the rest works. Every flag can be given as
/// `LASTSEEN_<FLAG>` in the environment or as a key of the --config file: flag over environment over file.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "node-agent", version)]
pub struct Config {
    /// TOML file with the same keys as the flags
    #[arg(long, env = "LASTSEEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Coordinators, tried in turn
    #[arg(
        long,
        env = "LASTSEEN_COORDINATOR",
        value_name = "HOST:PORT[,HOST:PORT]",
        value_delimiter = ',',
        required = true
    )]
    pub coordinator: Vec<String>,

    /// Name of this node; must be the one in the certificate [default: the host name]
    #[arg(long, env = "LASTSEEN_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Directory with ca.crt, tls.crt and tls.key of this agent
    #[arg(long, env = "LASTSEEN_PKI_DIR", value_name = "DIR", default_value = "/etc/lastseen/pki")]
    pub pki_dir: PathBuf,

    /// How packets are captured
    #[arg(long, env = "LASTSEEN_BACKEND", value_enum, default_value_t)]
    pub backend: Backend,

    /// Ring memory per interface and direction, in bytes, as far as --ring-max-bytes allows
    #[arg(long, env = "LASTSEEN_RING_BYTES", value_name = "BYTES", default_value_t = 4 << 20,
          value_parser = clap::value_parser!(u64).range(8192..=1 << 30))]
    pub ring_bytes: u64,

    /// Ring memory of all captures together, in bytes; rings get smaller to fit, and what does not fit is refused
    #[arg(long, env = "LASTSEEN_RING_MAX_BYTES", value_name = "BYTES", default_value_t = 512 << 20,
          value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 40))]
    pub ring_max_bytes: u64,

    /// Directory for observations that the coordinator has not acknowledged; they survive the agent. One agent per
    /// directory
    #[arg(long, env = "LASTSEEN_SPOOL_DIR", value_name = "DIR", default_value = "/var/lib/lastseen/spool")]
    pub spool_dir: PathBuf,

    /// Most bytes in --spool-dir; beyond them observations are dropped and counted
    #[arg(long, env = "LASTSEEN_SPOOL_MAX_BYTES", value_name = "BYTES", default_value_t = 1 << 30,
          value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 40))]
    pub spool_max_bytes: u64,

    /// When observations are made safe from a power cut; the end of the agent, however it comes, costs none of them
    #[arg(long, env = "LASTSEEN_SPOOL_FSYNC", value_enum, default_value_t)]
    pub spool_fsync: Fsync,

    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "LASTSEEN_ADMIN_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:7482")]
    pub admin_listen: SocketAddr,

    /// OpenTelemetry collector that traces go to, OTLP over gRPC; also the standard `OTEL_EXPORTER_OTLP_ENDPOINT`. Without
    /// one nothing is traced
    #[arg(long, env = "LASTSEEN_OTLP_ENDPOINT", value_name = "http://HOST:PORT")]
    pub otlp_endpoint: Option<String>,

    /// How log lines look
    #[arg(long, env = "LASTSEEN_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}
