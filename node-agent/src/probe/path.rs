//! Packets of one flow that a capture of the same time can follow from point to point.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use super::attempt::{Attempt, trouble};
use super::flow::{Datagram, Flow, Syn};
use super::icmp::{self, Echo};
use super::spec::{Marks, Schedule, TraceProtocol};
use super::train;

/// IP header of IPv4 and IPv6, and that of ICMP or UDP.
const HEADERS: [usize; 2] = [20 + 8, 40 + 8];

/// Sends them, and says from which address.
pub(super) async fn run(
    to: SocketAddr,
    marks: &Marks,
    schedule: &Schedule,
    begin: Instant,
) -> Result<(Vec<Attempt>, IpAddr), String> {
    let (mut attempts, source) = series(to, marks, schedule, begin).await.map_err(|error| trouble(&error))?;
    if marks.protocol != TraceProtocol::Tcp {
        for (attempt, size) in attempts.iter_mut().zip(marks.sizes.iter().cycle()) {
            attempt.size = Some(*size);
        }
    }
    Ok((attempts, source))
}

async fn series(
    to: SocketAddr,
    marks: &Marks,
    schedule: &Schedule,
    begin: Instant,
) -> io::Result<(Vec<Attempt>, IpAddr)> {
    let (ip, headers) = (to.ip(), HEADERS[usize::from(to.is_ipv6())]);
    let payloads = || marks.sizes.iter().map(|size| usize::from(*size).saturating_sub(headers)).collect();
    let (is_tcp, port) = (marks.protocol == TraceProtocol::Tcp, marks.source_port);
    if marks.protocol == TraceProtocol::Icmp {
        let socket = icmp::open(SocketAddr::new(ip, 0))?;
        socket.may_fragment(to.is_ipv6(), !marks.dont_fragment)?;
        let echo = Echo::new(to.is_ipv6(), payloads());
        return Ok((train::run(&socket, &echo, ip, schedule, begin).await, socket.source()?));
    }
    let (flow, socket) = Flow::open(to, is_tcp, port)?;
    socket.may_fragment(to.is_ipv6(), !marks.dont_fragment)?;
    let attempts = if is_tcp {
        train::run(&socket, &Syn(flow), ip, schedule, begin).await
    } else {
        train::run(&socket, &Datagram::new(flow, payloads()), ip, schedule, begin).await
    };
    Ok((attempts, socket.source()?))
}
