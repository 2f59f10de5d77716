//! Nodes whose network and packets are made up, and an agent of the real code on them: only where the packets come from
//! is replaced. What every packet does follows from its number and the time, so that processes need not speak to each
//! other to agree on it, and whoever is killed misses exactly what came meanwhile.

pub mod clock;
pub mod host;
pub mod script;
pub mod source;
