//! Why a connection was refused before there was any call: in words for the log, and as a label to count by.

use std::fmt;
use std::io;

use rustls::{CertificateError, Error};

/// Every [`Refusal::kind`].
pub const KINDS: [&str; 13] = [
    "timeout",
    "closed",
    "other",
    "no_certificate",
    "refuses_us",
    "not_tls",
    "incompatible",
    "expired",
    "not_valid_yet",
    "unknown_authority",
    "denied",
    "not_a_client",
    "certificate",
];

/// What was wrong with a peer that did not get through the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of a few words, which a counter may have as a label.
    pub kind: &'static str,
    text: String,
}

impl Refusal {
    /// From what the handshake ended with.
    pub fn new(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return of_tls(error);
        }
        match error.kind() {
            io::ErrorKind::TimedOut => refusal("timeout", "no TLS handshake within 10 s"),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                refusal("closed", "it hung up during the TLS handshake")
            }
            _ => refusal("other", error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn refusal(kind: &'static str, text: impl fmt::Display) -> Refusal {
    debug_assert!(KINDS.contains(&kind), "{kind} is not listed");
    Refusal { kind, text: text.to_string() }
}

fn of_tls(error: &Error) -> Refusal {
    match error {
        Error::NoCertificatesPresented => {
            refusal("no_certificate", "it shows no certificate; give it a --pki-dir")
        }
        Error::InvalidCertificate(reason) => of_certificate(reason),
        Error::AlertReceived(alert) => refusal(
            "refuses_us",
            format!(
                "it refuses our certificate ({alert:?}); does it dial a name that the certificate holds, and trust our authority?"
            ),
        ),
        Error::InvalidMessage(_) => refusal("not_tls", "it does not speak TLS"),
        Error::PeerIncompatible(reason) => {
            refusal("incompatible", format!("it does not speak TLS 1.3 as we do ({reason:?})"))
        }
        other => refusal("other", other),
    }
}

fn of_certificate(reason: &CertificateError) -> Refusal {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            refusal("expired", "its certificate has expired; issue a new one with `ctl pki issue`")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            refusal("not_valid_yet", "its certificate is not valid yet; compare its issuer's clock with ours")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => refusal(
            "unknown_authority",
            "its certificate is signed by another authority; issue one with the fabric's CA by `ctl pki issue`",
        ),
        CertificateError::Revoked => {
            refusal("denied", "its certificate is on the deny list of the policy file")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => refusal(
            "not_a_client",
            "its certificate is not made for a client (extended key usage); issue one with `ctl pki issue`",
        ),
        other => refusal("certificate", format!("its certificate cannot be accepted: {other}")),
    }
}
