//! Who a certificate speaks for: exactly one SAN URI `spiffe://<trust-domain>/<role>[/<name>]`.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the holder of a certificate may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A node agent; its name is the node's.
    Agent,
    /// Runs jobs and reads everything.
    Operator,
    /// Reads everything.
    Viewer,
    /// Serves the fabric. Only such a certificate is accepted from a server.
    Coordinator,
}

impl Role {
    /// The role's segment in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Coordinator => "coordinator",
        }
    }

    fn from_segment(segment: &str) -> Option<Self> {
        [Self::Agent, Self::Operator, Self::Viewer, Self::Coordinator]
            .into_iter()
            .find(|role| role.as_str() == segment)
    }
}

/// The subject of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Authority of the URI.
    pub trust_domain: String,
    /// First segment of its path.
    pub role: Role,
    /// Second segment; empty for the coordinator.
    pub name: String,
}

/// A certificate that names no identity of this fabric.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Malformed(String),
    /// None or several URIs in the subject alternative name.
    #[error("{0} SAN URIs where exactly one is needed; issue it with `ctl pki issue`")]
    UriCount(usize),
    /// A URI of another shape.
    #[error("SAN URI {0:?} is not spiffe://<trust-domain>/agent|operator|viewer/<name> or …/coordinator")]
    UnknownUri(String),
}

impl Identity {
    /// The identity of an agent, operator or viewer. A coordinator's `name` is ignored.
    pub fn new(trust_domain: &str, role: Role, name: &str) -> Self {
        let name = if role == Role::Coordinator { "" } else { name };
        Self { trust_domain: trust_domain.to_owned(), role, name: name.to_owned() }
    }

    /// Reads the identity from a DER certificate. Trust in the certificate must have been established before.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| IdentityError::Malformed(e.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| IdentityError::Malformed(e.to_string()))?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        match uris[..] {
            [uri] => Self::from_uri(uri),
            _ => Err(IdentityError::UriCount(uris.len())),
        }
    }

    /// Parses `spiffe://<trust-domain>/<role>[/<name>]`.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let unknown = || IdentityError::UnknownUri(uri.to_owned());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(unknown)?;
        let mut segments = rest.split('/');
        let trust_domain = segments.next().filter(|s| !s.is_empty()).ok_or_else(unknown)?;
        let role = segments.next().and_then(Role::from_segment).ok_or_else(unknown)?;
        let name = segments.next().unwrap_or_default();
        let named = role != Role::Coordinator;
        if segments.next().is_some() || name.is_empty() == named || uri.ends_with('/') {
            return Err(unknown());
        }
        Ok(Self::new(trust_domain, role, name))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.role.as_str())?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_survives_a_round_trip() {
        for uri in [
            "spiffe://x/agent/node-a",
            "spiffe://x/operator/eve",
            "spiffe://x/viewer/v",
            "spiffe://x/coordinator",
        ] {
            assert_eq!(Identity::from_uri(uri).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for uri in [
            "https://x/agent/a",
            "spiffe:///agent/a",
            "spiffe://x",
            "spiffe://x/agent",
            "spiffe://x/agent/",
            "spiffe://x/agent/a/b",
            "spiffe://x/root/a",
            "spiffe://x/coordinator/a",
            "spiffe://x/coordinator/",
        ] {
            assert_eq!(Identity::from_uri(uri), Err(IdentityError::UnknownUri(uri.to_owned())), "{uri}");
        }
    }
}
