//! What became of one attempt.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// The target said no.
    Refused,
    /// Something on the way said no.
    Unreachable,
    /// Nothing in time.
    Silent,
    /// It was not sent.
    NotSent,
    /// It ran out of hops, as it was meant to.
    Expired,
}

/// When each step of a request was done, each counted from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The connection was open.
    pub connected: Option<Duration>,
    /// TLS was agreed on.
    pub secured: Option<Duration>,
    /// The headers were there.
    pub first_byte: Option<Duration>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent, nanoseconds since 1970 on this node's clock.
    pub sent: i64,
    /// What came back.
    pub outcome: Outcome,
    /// Until then.
    pub delay: Option<Duration>,
    /// Who said so, if it was not the target.
    pub responder: Option<IpAddr>,
    /// In words, where the outcome does not say it all.
    pub detail: String,
    /// Bytes of the packet with its IP header, where those are what is looked for.
    pub size: Option<u16>,
    /// Somebody said that it is too large: this node, or a router.
    pub is_too_large: bool,
    /// What the next link takes, as who refused it says.
    pub next_mtu: Option<u32>,
    /// Hops it was given.
    pub hop_limit: Option<u8>,
    /// Of HTTP.
    pub timing: Option<Timing>,
}

impl Attempt {
    /// Nothing came back so far.
    pub fn silent(sent: i64) -> Self {
        Self {
            sent,
            outcome: Outcome::Silent,
            delay: None,
            responder: None,
            detail: String::new(),
            size: None,
            is_too_large: false,
            next_mtu: None,
            hop_limit: None,
            timing: None,
        }
    }

    /// It could not be sent.
    pub fn not_sent(sent: i64, error: &io::Error) -> Self {
        let is_too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
        Self { outcome: Outcome::NotSent, detail: trouble(error), is_too_large, ..Self::silent(sent) }
    }

    /// What came back is an ICMP message of this type and code, by `from`; absent: by the target.
    pub fn told(sent: i64, to: IpAddr, icmp: (u8, u8), from: Option<IpAddr>, delay: Duration) -> Self {
        let is_target = from.is_none_or(|from| from == to);
        let is_port = matches!((to.is_ipv6(), icmp), (false, (3, 3)) | (true, (1, 4)));
        Self {
            outcome: if is_port && is_target { Outcome::Refused } else { Outcome::Unreachable },
            delay: Some(delay),
            responder: from.filter(|from| *from != to),
            detail: icmp_error(to.is_ipv6(), icmp.0, icmp.1),
            is_too_large: matches!((to.is_ipv6(), icmp), (false, (3, 4)) | (true, (2, _))),
            ..Self::silent(sent)
        }
    }

    /// What came back is an error of the socket: the target's word, or a router's.
    pub fn ended(sent: i64, error: &io::Error, delay: Duration) -> Self {
        let silent = Self::silent(sent);
        let with = |outcome, detail: &str| Self {
            outcome,
            delay: Some(delay),
            detail: detail.to_owned(),
            ..silent.clone()
        };
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => with(Outcome::Refused, ""),
            Some(libc::ECONNRESET) => with(Outcome::Refused, "the connection was reset"),
            // The kernel gave up: its own patience was shorter.
            Some(libc::ETIMEDOUT) => silent,
            Some(libc::EHOSTUNREACH) => with(Outcome::Unreachable, "host unreachable"),
            Some(libc::ENETUNREACH) => with(Outcome::Unreachable, "network unreachable"),
            Some(libc::EACCES) => with(Outcome::Unreachable, "administratively prohibited"),
            _ => with(Outcome::Unreachable, &error.to_string()),
        }
    }
}

/// Why nothing can be sent, in words.
pub fn trouble(error: &io::Error) -> String {
    let words = match error.raw_os_error() {
        Some(libc::EMSGSIZE) => "it is larger than the MTU on the way, and must not be fragmented",
        Some(libc::ENETUNREACH) => "there is no route to it from here",
        Some(libc::EHOSTUNREACH) => "no neighbour answers for it, or a route forbids it",
        Some(libc::EACCES) => "a route forbids it, or it is a broadcast address",
        Some(libc::EPERM) => "a filter of this node forbids it, or the agent lacks NET_RAW",
        _ => return error.to_string(),
    };
    words.to_owned()
}

/// An ICMP error in words. `is_v6`: of RFC 4443 §3, else of RFC 792 and RFC 1812 §5.2.7.1.
pub fn icmp_error(is_v6: bool, kind: u8, code: u8) -> String {
    let words = match (is_v6, kind, code) {
        (false, 3, 0) | (true, 1, 0) => "network unreachable",
        (false, 3, 1) => "host unreachable",
        (true, 1, 3) => "address unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 4) => "fragmentation needed",
        (true, 2, _) => "packet too big",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
        (true, 1, 5) => "source address failed policy",
        (true, 1, 6) => "route rejected",
        (false, 11, 0) | (true, 3, 0) => "hop limit exceeded",
        (false, 11, 1) | (true, 3, 1) => "fragment reassembly time exceeded",
        _ => return format!("ICMP type {kind} code {code}"),
    };
    words.to_owned()
}
