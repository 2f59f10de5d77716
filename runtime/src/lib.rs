//! What the three programs share, and nothing else: identity and TLS with certificates and their end, configuration, telemetry,
//! shutdown, back-off, the admin port with what every process shows there, values of flags and scratch files. The list is
//! closed; a thing that only one program needs belongs there.

pub mod admin;
pub mod backoff;
pub mod certificate;
pub mod client;
pub mod config;
pub mod expiry;
pub mod identity;
mod origin;
pub mod process;
pub mod refusal;
pub mod roots;
pub mod sampled;
pub mod scratch;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod usage;
pub mod values;
