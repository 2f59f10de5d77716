//! Who has an address on the link, and what the kernel believes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use lastseen_packet::LinkType;
use lastseen_proto::v1;
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Outcome, trouble};
use super::inquiry::{Inquiry, Mac};
use super::report::Neighbor;
use super::spec::Schedule;
use super::way::{Way, known, way};
use super::{arp, solicitation};
use crate::clock;

/// Link-layer addresses that are told.
const ADDRESSES: usize = 16;

/// Asks the link of the route to `target` for it.
pub(super) async fn run(
    target: IpAddr,
    schedule: &Schedule,
    begin: Instant,
) -> Result<(Vec<Attempt>, Neighbor), String> {
    let way = way(target).await?;
    if let Some(gateway) = way.gateway {
        return Err(format!("it is not on a link of this place; the way to it is by {gateway}, which is"));
    }
    let (interface, source) =
        if way.is_local { own(&way, target)? } else { (&way.link.interface, way.source) };
    let entry = known(&way.snapshot, interface.index, target).filter(|_| !way.is_local);
    let (attempts, found) = ask(interface, source, target, entry, schedule, begin).await?;
    Ok((attempts, Neighbor { is_own: way.is_local, ..found }))
}

/// Where an address of one's own is, and no sender, so that nobody takes the question for an answer: who answers has it too.
fn own(way: &Way, target: IpAddr) -> Result<(&v1::Interface, Option<IpAddr>), String> {
    if target.is_ipv6() {
        return Err("it is this place's own address; ask for it from another node on the link".to_owned());
    }
    let has = |interface: &v1::Interface| {
        let own = |text: &String| text.split('/').next().is_some_and(|address| address == target.to_string());
        interface.addresses.iter().any(own)
    };
    let link = way.snapshot.links.iter().find(|link| has(&link.interface));
    let link = link.ok_or("it is this place's own address, and on no interface")?;
    Ok((&link.interface, Some(Ipv4Addr::UNSPECIFIED.into())))
}

/// Asks one interface.
pub(super) async fn ask(
    interface: &v1::Interface,
    source: Option<IpAddr>,
    target: IpAddr,
    entry: Option<&v1::Neighbor>,
    schedule: &Schedule,
    begin: Instant,
) -> Result<(Vec<Attempt>, Neighbor), String> {
    let mut found = Neighbor {
        interface: interface.name.clone(),
        kernel_state: entry.map(|entry| entry.state.clone()).unwrap_or_default(),
        kernel_link_address: entry.map(|entry| entry.mac.clone()).unwrap_or_default(),
        link_addresses: Vec::new(),
        is_own: false,
    };
    let without = || format!("{} has no link-layer address, and so have its neighbours", interface.name);
    let mac = read(&interface.mac).filter(|mac| *mac != [0; 6]).ok_or_else(without)?;
    let inquiry = match (target, source) {
        (IpAddr::V4(target), Some(IpAddr::V4(source))) => arp::open(interface.index, mac, source, target),
        (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
            solicitation::open(interface.index, mac, source, target)
        }
        _ => return Err(format!("{} has no address to ask from", interface.name)),
    };
    let inquiry = inquiry.map_err(|error| trouble(&error))?;
    // What came before took its time, and attempts that are late would come in a burst.
    let begin = begin.max(Instant::now());
    let attempts = attempts(&inquiry, schedule, begin, &mut found.link_addresses).await;
    Ok((attempts.map_err(|error| trouble(&error))?, found))
}

async fn attempts(
    inquiry: &Inquiry,
    schedule: &Schedule,
    begin: Instant,
    addresses: &mut Vec<String>,
) -> io::Result<Vec<Attempt>> {
    let mut attempts: Vec<(Attempt, Instant)> = Vec::new();
    loop {
        let is_last = attempts.len() >= usize::from(schedule.count);
        let wake = if is_last {
            // Another one that has the address too may be slower.
            attempts.last().map_or(begin, |(_, at)| *at) + schedule.timeout
        } else {
            begin + schedule.interval * attempts.len() as u32
        };
        tokio::select! {
            mac = inquiry.next() => {
                let mac = text(mac?);
                if !addresses.contains(&mac) && addresses.len() < ADDRESSES {
                    addresses.push(mac);
                }
                // Answers do not say to which question: the oldest that still waits.
                let is_open = |(attempt, at): &&mut (Attempt, Instant)| {
                    attempt.outcome == Outcome::Silent && at.elapsed() <= schedule.timeout
                };
                if let Some((attempt, at)) = attempts.iter_mut().find(is_open) {
                    attempt.outcome = Outcome::Answered;
                    attempt.delay = Some(at.elapsed());
                }
            }
            () = sleep_until(wake) => {
                if is_last {
                    return Ok(attempts.into_iter().map(|(attempt, _)| attempt).collect());
                }
                let (at, sent) = (Instant::now(), clock::realtime_nanos());
                let attempt = match inquiry.ask() {
                    Ok(()) => Attempt::silent(sent),
                    Err(error) => Attempt::not_sent(sent, &error),
                };
                attempts.push((attempt, at));
            }
        }
    }
}

fn read(text: &str) -> Option<Mac> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Whether there is somebody to ask for an address on such an interface.
pub(super) fn has_neighbors(frames: Option<LinkType>, interface: &v1::Interface) -> bool {
    frames == Some(LinkType::Ethernet) && read(&interface.mac).is_some_and(|mac| mac != [0; 6])
}
