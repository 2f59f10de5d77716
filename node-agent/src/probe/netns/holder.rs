//! The network namespace that has an address.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use lastseen_proto::place::Place;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};

use super::{NAMED, cannot_enter, of_process};

/// A namespace, and how a person would name it.
struct Candidate {
    file: File,
    name: String,
}

/// Moves this thread there. On the way it visits every namespace of the node that a name or a process leads to.
pub(super) fn enter(address: IpAddr) -> Result<(), String> {
    let place = Place::Holder(address);
    let mut found: Vec<Candidate> = Vec::new();
    for candidate in candidates() {
        match setns(&candidate.file, CloneFlags::CLONE_NEWNET) {
            Err(Errno::EPERM) => return Err(cannot_enter(&place)),
            Ok(()) if has(address) => found.push(candidate),
            // It does not have it, or went away meanwhile.
            _ => {}
        }
    }
    match &found[..] {
        [] => Err(format!("netns: no network namespace of this node has {address}")),
        [one] => setns(&one.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("netns: {place} cannot be entered: {errno}")),
        several => {
            let names: Vec<&str> = several.iter().map(|candidate| candidate.name.as_str()).collect();
            Err(format!(
                "netns: {address} is in several network namespaces of this node; name one of {}",
                names.join(", ")
            ))
        }
    }
}

/// Each once, the host's first, then those with a name.
fn candidates() -> impl Iterator<Item = Candidate> {
    let named = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let named = named.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let processes = processes.map(|process| (of_process(process), process.to_string()));
    let own = (PathBuf::from("/proc/self/ns/net"), "the host's".to_owned());
    let mut seen = HashSet::new();
    std::iter::once(own).chain(named).chain(processes).filter_map(move |(path, name)| {
        let file = File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        seen.insert((metadata.dev(), metadata.ino())).then_some(Candidate { file, name })
    })
}

/// Whether this thread's namespace has it.
fn has(address: IpAddr) -> bool {
    let Ok(addresses) = getifaddrs() else { return false };
    let ip = |storage: nix::sys::socket::SockaddrStorage| -> Option<IpAddr> {
        let v4 = storage.as_sockaddr_in().map(|own| IpAddr::from(own.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|own| own.ip().into()))
    };
    addresses.filter_map(|own| own.address.and_then(ip)).any(|own| own == address)
}
