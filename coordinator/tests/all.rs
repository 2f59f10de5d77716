//! The coordinator as its clients see it, as one program.

mod access;
mod audit;
mod captures;
mod certificates;
mod cluster;
mod common;
mod database;
mod faults;
mod health;
mod hostile;
mod limits;
mod objects;
mod policy;
mod probes;
mod reports;
mod retention;
mod startup;
mod store;
