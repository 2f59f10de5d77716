//! The coordinator: knows the nodes, runs capture jobs, stores what agents observe and says where packets disappeared.

pub mod access;
pub mod analysis;
pub mod clock;
pub mod config;
pub mod connections;
pub mod error;
pub mod files;
pub mod fleet;
pub mod ingest;
pub mod jobs;
pub mod limits;
pub mod lock;
pub mod metrics;
pub mod model;
pub mod quota;
pub mod server;
pub mod services;
pub mod store;
pub mod time;
pub mod wire;
