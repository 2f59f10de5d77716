//! What the three programs share, and nothing else: identity and TLS, configuration, telemetry, shutdown,
//! back-off, the admin port and scratch files. The list is closed; a thing that only one program needs belongs there.

pub mod admin;
pub mod backoff;
pub mod client;
pub mod config;
pub mod identity;
mod origin;
pub mod refusal;
pub mod scratch;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod usage;
