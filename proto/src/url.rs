//! What a web server is asked for.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

use crate::limits::PROBE_URL_BYTES;
use crate::target::{Host, Target};

/// An absolute URL of HTTP or HTTPS, RFC 9110 §4.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    /// Over TLS.
    pub is_secure: bool,
    /// Whom to ask; the port is always there.
    pub server: Target,
    /// Path and query, `/` at least.
    pub path: String,
}

impl WebUrl {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port.unwrap_or(usual_port(self.is_secure))
    }

    /// What a request's Host field says, RFC 9110 §7.2.
    pub fn authority(&self) -> String {
        match (&self.server.host, self.port() == usual_port(self.is_secure)) {
            (_, false) => self.server.to_string(),
            (Host::Address(std::net::IpAddr::V6(address)), true) => format!("[{address}]"),
            (Host::Address(address), true) => address.to_string(),
            (Host::Name(name), true) => name.clone(),
        }
    }
}

/// RFC 9110 §4.2.
fn usual_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// Not a URL that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} {reason}; give http://HOST[:PORT]/PATH or https://…")]
pub struct UrlError {
    given: String,
    reason: String,
}

impl FromStr for WebUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        const SHOWN: usize = 200;
        let wrong =
            |reason: &str| UrlError { given: text.chars().take(SHOWN).collect(), reason: reason.to_owned() };
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
        if authority.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
            let reason = "holds a name or a password, which would be stored with the probe; leave it out";
            return Err(UrlError { given: "it".to_owned(), reason: reason.to_owned() });
        }
        if text.len() > PROBE_URL_BYTES {
            return Err(wrong(&format!("is longer than {PROBE_URL_BYTES} bytes")));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("has no scheme http or https")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        let mut server: Target = authority.as_str().parse().map_err(|_| wrong("has no host of that kind"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        server.port = server.port.or(Some(usual_port(is_secure)));
        Ok(Self { is_secure, server, path })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_one_form_and_a_port() {
        for (given, written, authority, port) in [
            ("http://10.0.0.1", "http://10.0.0.1/", "10.0.0.1", 80),
            ("https://web.default.svc:443/a?b=c", "https://web.default.svc/a?b=c", "web.default.svc", 443),
            ("https://[FD00::1]:6443/healthz", "https://[fd00::1]:6443/healthz", "[fd00::1]:6443", 6443),
            ("http://[fd00::1]", "http://[fd00::1]/", "[fd00::1]", 80),
            ("http://a?x=1", "http://a/?x=1", "a", 80),
            ("http://a/b@c", "http://a/b@c", "a", 80),
        ] {
            let url: WebUrl = given.parse().unwrap();
            assert_eq!(
                (url.to_string(), url.authority(), url.port()),
                (written.into(), authority.into(), port)
            );
            assert_eq!(written.parse(), Ok(url), "{given}");
        }
    }

    #[test]
    fn what_is_no_url_or_holds_a_secret_is_refused_and_the_secret_is_not_said() {
        let long = format!("http://a/{}", "x".repeat(PROBE_URL_BYTES));
        for (given, part) in [
            ("10.0.0.1:80", "scheme"),
            ("/etc/passwd", "scheme"),
            ("file:///etc/passwd", "URL"),
            ("ftp://a/", "scheme"),
            ("http://", "URL"),
            ("http://a:99999/", "host of that kind"),
            ("http://a b/", "URL"),
            ("http://a/\r\nx: y", "URL"),
            (&long, "longer"),
        ] {
            let error = given.parse::<WebUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{given}: {error}");
        }
        let endless = format!("https://root:hunter2@web/{long}");
        for secret in [
            "https://root:hunter2@web/",
            "http://root:hunt^er2@web/",
            "ftp://root:hunter2@web",
            "root:hunter2@web",
            &endless,
        ] {
            let error = secret.parse::<WebUrl>().unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("hunt"), "{error}");
        }
    }
}
