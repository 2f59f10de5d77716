//! Captures that sample: which segments the product must have judged, by an own reading of what was sent.
//!
//! Every segment that a pod sends or receives is seen by a raw socket at its interface. Whether the hash of what all
//! hops see alike of it is small enough is worked out here from the capture's secret, without the product's code.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use lastseen_coordinator::store::{SqliteStore, Store};
use siphasher::sip::SipHasher13;

use super::report::{Path, Report};
use super::truth::{Stream, Truth};
use crate::product::fleet::Fleet;
use crate::traffic::ConversationLog;
use crate::traffic::ledger::{Contents, Sent};
use crate::traffic::udp::{FILLER, SAME_BYTES};

const TCP: u8 = 6;
const SELECTION: u64 = 1 << 63;

/// Selected segments that were sent and lost, by protocol, source and destination.
type Counts = BTreeMap<(u8, SocketAddr, SocketAddr), (u64, u64)>;

/// What the report of a capture that sampled must say.
#[derive(Debug, Clone, Default)]
pub struct Sampled {
    interval: u32,
    counts: Counts,
}

/// One in `interval`, under the secret of a capture.
#[derive(Debug)]
struct Choice {
    key: [u8; 16],
    interval: u32,
}

impl Choice {
    fn hash(&self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        SipHasher13::new_with_key(&self.key).hash(&bytes)
    }

    fn selects(&self, one: &Contents) -> bool {
        let words = match one {
            Contents { protocol: TCP, length: 1.., seq, .. } => [SELECTION, u64::from(*seq)],
            Contents { protocol: TCP, .. } | Contents { ip_id: 0, .. } => {
                [SELECTION | 2, self.identity(one) >> 1]
            }
            _ => [SELECTION | 1, u64::from(one.protocol) | u64::from(one.ip_id) << 8],
        };
        self.hash(&words) <= u64::MAX / u64::from(self.interval)
    }

    /// Of a TCP segment without payload, and of a generator's datagram.
    fn identity(&self, one: &Contents) -> u64 {
        let common = u64::from(one.protocol) | u64::from(one.flags) << 8 | u64::from(one.ip_id) << 16;
        if one.protocol != TCP {
            let payload = SipHasher13::new_with_key(&self.key).hash(&[FILLER; SAME_BYTES]);
            return self.hash(&[common | u64::from(one.length) << 32, payload]);
        }
        let (value, echo) = one.timestamps;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        self.hash(&[common, pair(one.seq, one.ack), pair(value, echo)])
    }
}

/// Leaves of the ground truth what is selected.
pub fn narrow(
    truth: &mut Truth,
    fleet: &Fleet<'_>,
    capture: &str,
    interval: u32,
    sent: &[Sent],
    logs: &[ConversationLog],
) -> Result<()> {
    if let Some(other) = sent.iter().find(|one| one.contents.protocol != TCP && one.contents.id.is_none()) {
        bail!("the pods sent more than the generators did: {other:?}");
    }
    let lost = sent.iter().filter(|one| one.is_lost).count() as u64;
    if lost != truth.lost() {
        bail!("{lost} segments did not reach a pod, the fault counts {}", truth.lost());
    }
    let choice = Choice { key: key(fleet, capture)?, interval };
    let selected: Vec<&Sent> = sent.iter().filter(|one| choice.selects(&one.contents)).collect();
    let mut counts = Counts::new();
    for one in &selected {
        let count = counts.entry((one.contents.protocol, one.source, one.destination)).or_default();
        *count = (count.0 + 1, count.1 + u64::from(one.is_lost));
    }
    let streams = [&mut truth.faulty, &mut truth.clean].into_iter().chain(&mut truth.others);
    for (stream, log) in streams.zip(logs) {
        check_log(stream, log, sent)?;
        let count = counts.get(&(17, stream.source, stream.destination)).copied();
        (stream.sent, stream.lost) = count.unwrap_or_default();
    }
    let lost: u64 = counts.values().map(|count| count.1).sum();
    match &mut truth.losses[..] {
        [] if lost == 0 => {}
        [leg] if lost > 0 => leg.count = lost,
        legs => bail!("{lost} of the selected are lost on {} legs: there is nothing to find", legs.len()),
    }
    let ids: HashSet<(SocketAddr, u64)> =
        selected.iter().filter_map(|one| Some((one.source, one.contents.id?))).collect();
    for oracle in &mut truth.oracles {
        oracle.select(logs, |source, id| ids.contains(&(source, id)));
    }
    truth.sampled = Some(Sampled { interval, counts });
    Ok(())
}

/// The watch and the generators must agree.
fn check_log(stream: &Stream, log: &ConversationLog, sent: &[Sent]) -> Result<()> {
    let is_its = |one: &&Sent| {
        one.contents.protocol == 17 && (one.source, one.destination) == (stream.source, stream.destination)
    };
    let seen: HashSet<u64> = sent.iter().filter(is_its).filter_map(|one| one.contents.id).collect();
    let lost = sent.iter().filter(is_its).filter(|one| one.is_lost).count();
    let known = log.udp.as_ref().context("the conversation sent no UDP")?;
    if known.sent.len() != seen.len() || known.lost().len() != lost {
        bail!(
            "{} datagrams were sent and {} lost, of which the watch saw {} and {lost}",
            known.sent.len(),
            known.lost().len(),
            seen.len()
        );
    }
    Ok(())
}

/// The secret of a capture, which only the coordinator's store tells.
fn key(fleet: &Fleet<'_>, capture: &str) -> Result<[u8; 16]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = SqliteStore::open(None, &fleet.path("data")).await?;
        let found = store.capture(capture).await;
        store.close().await;
        Ok(found?.with_context(|| format!("{capture} is not in the store"))?.identity_key.0)
    })
}

/// What of the report is not as it must be: every path, TCP's among them, has exactly the segments that are selected.
pub fn check(truth: &Truth, report: &Report) -> Vec<String> {
    let Some(Sampled { interval, counts }) = &truth.sampled else {
        let said = report.sampling.map(|said| format!("1 in {} is said to be sampled", said.interval));
        return said.into_iter().collect();
    };
    let mut differences = Vec::new();
    if report.sampling.is_none_or(|said| said.interval != *interval || said.varied) {
        differences.push(format!("1 in {interval} was sampled, reported {:?}", report.sampling));
    }
    let mut left = counts.clone();
    // Nodes ask for their neighbours when they like.
    for path in report.paths.iter().filter(|path| !path.protocol.starts_with("icmp")) {
        let expected = tuple(path).and_then(|tuple| left.remove(&tuple)).unwrap_or_default();
        let found = (path.totals.segments, path.totals.lost);
        if found != expected || path.totals.delivered != expected.0 - expected.1 {
            differences.push(format!(
                "{} {} → {}: of the selected {expected:?} were sent and lost, reported {:?}",
                path.protocol, path.source, path.destination, path.totals
            ));
        }
    }
    differences.extend(left.iter().map(|(tuple, count)| format!("no path {tuple:?}: {count:?}")));
    differences
}

fn tuple(path: &Path) -> Option<(u8, SocketAddr, SocketAddr)> {
    let protocol = match path.protocol.as_str() {
        "tcp" => TCP,
        "udp" => 17,
        _ => return None,
    };
    Some((protocol, path.source.parse().ok()?, path.destination.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use lastseen_packet::observation::{FlowKey, Observation, marks};
    use lastseen_packet::{IdentityKey, Sampler, Threshold};

    use super::*;

    /// Both readings of what is selected, of random segments of either kind.
    #[test]
    fn the_product_selects_what_the_lab_does() {
        let (key, interval) = ([9; 16], 4);
        let (choice, sampler) =
            (Choice { key, interval }, Sampler::new(IdentityKey(key), Threshold::one_in(interval)));
        let mut selected = 0;
        for number in 0..2_000_u32 {
            let protocol = if number % 2 == 0 { TCP } else { 17 };
            let one = Contents {
                protocol,
                ip_id: number as u16,
                length: if number % 4 == 0 { 0 } else { 100 },
                seq: number * 100,
                ack: number * 7,
                flags: number as u8 & 0x06,
                timestamps: (number, 3),
                id: None,
            };
            let row = Observation {
                ip_id: one.ip_id,
                payload_length: one.length,
                tcp_seq: one.seq,
                tcp_ack: one.ack,
                tcp_flags: one.flags | 0x10,
                ts_value: number,
                ts_echo: 3,
                marks: marks::IPV4,
                ..Observation::default()
            };
            let flow = FlowKey { protocol, ..FlowKey::UNSPECIFIED };
            assert_eq!(choice.selects(&one), sampler.keeps(&flow, &row), "{one:?}");
            selected += u32::from(choice.selects(&one));
        }
        assert!((400..600).contains(&selected), "{selected}");
    }
}
