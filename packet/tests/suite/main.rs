//! The decoder against tshark, etherparse, hand-made packets and arbitrary bytes.

mod captures;
mod digest;
mod frames;
mod generated;
mod hostile;
mod identity;
mod layers;
mod offload;
mod sampling;
mod tshark;
