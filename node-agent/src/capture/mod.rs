//! Capturing packets: backends behind one trait, and the workers that turn their frames into observations.

pub mod af_packet;
mod assembler;
pub mod backend;
pub mod budget;
pub mod counters;
pub mod lens;
pub mod pcap;
mod ring;
pub mod slices;
mod snap;
mod socket;
mod stamps;
pub mod window;
pub mod worker;
