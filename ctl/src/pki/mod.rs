//! A small certificate authority for use outside Kubernetes: ECDSA P-256, one SPIFFE URI per certificate.
//!
//! The authority is a directory with `ca.crt` and `ca.key`; an identity is a directory with `ca.crt`, `tls.crt` and
//! `tls.key`, the file names of a Kubernetes TLS secret. The trust domain is in the authority's own certificate, as
//! the SPIFFE X.509-SVID standard (§ 4.3) has it for signing certificates.

mod authority;
mod files;
mod leaf;
mod names;

pub use authority::{Authority, CA_CERTIFICATE, CA_KEY};
pub use files::{is_private, store_identity};
pub use leaf::{Leaf, Request, Validity};
pub use names::{name, trust_domain};
