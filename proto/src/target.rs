//! What a probe is aimed at.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Longest name of DNS in text, RFC 1035 §2.3.4.
const NAME_BYTES: usize = 253;
/// Longest label of a name.
const LABEL_BYTES: usize = 63;

/// An address or a name, with a port where one was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address or name.
    pub host: Host,
    /// Never 0.
    pub port: Option<u16>,
}

/// Who is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    Address(IpAddr),
    /// By a name that is yet to be resolved.
    Name(String),
}

/// Not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} {reason}; give ADDRESS, NAME, ADDRESS:PORT, [IPV6]:PORT or NAME:PORT")]
pub struct TargetError {
    given: String,
    reason: &'static str,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = |reason| TargetError { given: text.chars().take(NAME_BYTES).collect(), reason };
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| wrong("has a port that is not within 1 and 65535"))?))
            }
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bare, host.parse::<IpAddr>()) {
            (Some(inner), _) => {
                let address =
                    inner.parse::<Ipv6Addr>().map_err(|_| wrong("is no IPv6 address in brackets"))?;
                Host::Address(address.into())
            }
            (None, Ok(IpAddr::V4(address))) => Host::Address(address.into()),
            _ if is_name(host) => Host::Name(host.to_owned()),
            _ => return Err(wrong("is neither an address nor a name")),
        };
        Ok(Self { host, port })
    }
}

/// As resolvers take it: underscores are in use for services.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    // What looks like an address and is none is a mistake, and must not be asked of a resolver.
    let is_number =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() <= NAME_BYTES && !is_number && labels.split('.').all(is_label)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(address), Some(port)) => SocketAddr::new(*address, port).fmt(f),
            (Host::Address(address), None) => address.fmt(f),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Name(name), None) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_probed_is_read_and_written_alike() {
        for (given, written) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("fd00::1", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("kube-dns.kube-system.svc:53", "kube-dns.kube-system.svc:53"),
            ("_http._tcp.web.", "_http._tcp.web."),
            ("3com.example", "3com.example"),
        ] {
            let target: Target = given.parse().unwrap();
            assert_eq!(target.to_string(), written, "{given}");
            assert_eq!(written.parse(), Ok(target), "{given}");
        }
    }

    #[test]
    fn what_cannot_is_refused_with_what_is_wrong_about_it() {
        let long = "a".repeat(LABEL_BYTES + 1);
        for (given, part) in [
            ("", "neither"),
            ("10.0.0.256", "neither"),
            ("10.0.0.1:0", "port"),
            ("10.0.0.1:65536", "port"),
            ("10.0.0.1:http", "port"),
            ("[10.0.0.1]:80", "brackets"),
            ("[fd00::1", "neither"),
            ("-a", "neither"),
            ("a b", "neither"),
            ("a..b", "neither"),
            ("a;reboot", "neither"),
            ("a\0", "neither"),
            (&long, "neither"),
        ] {
            let error = given.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(part) && error.ends_with("NAME:PORT"), "{given}: {error}");
        }
    }
}
