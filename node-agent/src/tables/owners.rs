//! Which processes have a socket: /proc/PID/fd, proc(5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

/// Descriptors that are looked at, of all processes.
const DESCRIPTORS: usize = 500_000;
/// Processes of one socket that are told.
const PIDS: usize = 4;

/// Who has a socket.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pids: Vec<u32>,
    others: usize,
    /// Of the first one, `/proc/PID/comm`.
    pub(super) command: String,
}

impl Owner {
    /// `12,34`.
    pub(super) fn pids(&self) -> String {
        let more = if self.others == 0 { String::new() } else { format!(",and {} more", self.others) };
        self.pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",") + &more
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Owners by number of the socket.
    pub(super) by_inode: BTreeMap<u64, Owner>,
    /// Why some may be missing.
    pub(super) notes: Vec<String>,
}

/// Of these sockets, among the processes that /proc shows.
pub(super) fn of(inodes: &BTreeSet<u64>, deadline: Instant) -> Owners {
    let mut owners = Owners::default();
    if inodes.is_empty() {
        return owners;
    }
    let (mut looked_at, mut refused) = (0, 0_u64);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if looked_at >= DESCRIPTORS || Instant::now() >= deadline {
            owners
                .notes
                .push("there are too many processes to look for the owners of all sockets".to_owned());
            break;
        }
        match fs::read_dir(entry.path().join("fd")) {
            Ok(descriptors) => {
                for descriptor in descriptors.flatten().take(DESCRIPTORS - looked_at) {
                    looked_at += 1;
                    let inode = fs::read_link(descriptor.path()).ok().and_then(|link| socket(&link));
                    if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                        add(owners.by_inode.entry(inode).or_default(), pid);
                    }
                }
            }
            Err(error) => refused += u64::from(error.kind() == io::ErrorKind::PermissionDenied),
        }
    }
    if refused > 0 {
        owners.notes.push(format!(
            "the sockets of {refused} processes may not be seen by the agent: it lacks SYS_PTRACE"
        ));
    }
    owners
}

fn add(owner: &mut Owner, pid: u32) {
    if owner.pids.last() == Some(&pid) {
        return;
    }
    if owner.pids.len() == PIDS {
        owner.others += 1;
        return;
    }
    if owner.pids.is_empty() {
        owner.command = command(pid);
    }
    owner.pids.push(pid);
}

/// Empty: it went away meanwhile.
fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned()
}

/// The number in `socket:[123]`.
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_socket_of_this_process_has_it_as_its_owner() {
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _twice = own.try_clone().unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", own.as_raw_fd())).unwrap();
        let inode = socket(&link).unwrap();
        let found = of(&BTreeSet::from([inode]), Instant::now() + Duration::from_mins(1));
        assert_eq!(found.by_inode[&inode].pids(), std::process::id().to_string());
        assert!(!found.by_inode[&inode].command.is_empty());
        let late = of(&BTreeSet::from([inode]), Instant::now());
        assert!(late.by_inode.is_empty() && late.notes[0].contains("too many processes"), "{late:?}");
        assert_eq!(socket(Path::new("pipe:[12]")), None);
    }

    #[test]
    fn of_many_processes_some_are_named() {
        let mut owner = Owner::default();
        for pid in [1, 1, 2, 3, 4, 5, 6] {
            add(&mut owner, u32::MAX - pid);
        }
        let last = u32::MAX;
        assert_eq!(owner.pids(), format!("{},{},{},{},and 2 more", last - 1, last - 2, last - 3, last - 4));
    }
}
