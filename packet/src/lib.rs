//! Bytes to facts: what a captured frame is, what makes it the same packet at the next hop, and the segments
//! that are matched. Pure: no I/O, no clock.
//!
//! The way of a frame: [`decode`] reads every layer into a [`Decoded`], [`observe`] turns that into rows of a
//! batch, [`segments`] expands a row into the canonical segments that correlation matches by [`identity::k0`].

mod config;
mod cursor;
mod datagrams;
mod decode;
mod decoded;
mod error;
pub mod identity;
mod ip;
mod link;
pub mod observation;
mod observe;
mod sampling;
mod segment;
mod transport;
mod tunnel;
mod tuple;

pub use config::{DecodeConfig, TunnelPort};
pub use decode::decode;
pub use decoded::{
    Arp, Decoded, Embedded, Encapsulation, Icmp, MAX_ENCAPSULATIONS, MAX_LABELS, MAX_SACK_BLOCKS, MAX_VLANS,
    Network, Opaque, Payload, Sctp, Tcp, Transport, Udp, VlanTag,
};
pub use error::{DecodeError, Layer, Reason};
pub use identity::{HASHED_BYTES, IdentityKey, datagram_key, k0};
pub use link::LinkType;
pub use observe::{Capture, Gso, Unobserved, observe};
pub use sampling::{Basis, Ks, Sampler, Threshold};
pub use segment::{MAX_SEGMENTS, Segment, Segments, segments};
pub use tuple::tuple;
