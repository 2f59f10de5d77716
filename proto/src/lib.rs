//! The wire: `lastseen.v1` messages and services, the encoding of observation batches, the limits of both ends, and
//! the conversions between generated types and the domain's.

pub mod batch;
pub mod convert;
pub mod limits;
pub mod place;
pub mod probed;
pub mod table;
pub mod target;
pub mod url;

/// Generated messages, clients and servers of `lastseen.v1`. Documented in the .proto files.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/lastseen.v1.rs"));
}

/// The encoded `FileDescriptorSet` of `lastseen.v1` and what it imports, for reflection and canonical JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the protocol, major * 1000 + minor. Agents and coordinators with the same major work together; a new format
/// of batches needs a new major, because each end reads only its own.
pub const PROTOCOL_VERSION: u32 = 3000;
