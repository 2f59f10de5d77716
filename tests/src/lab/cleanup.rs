//! Removal of namespaces and of the processes in them: on drop, on a signal, and for leftovers.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::command::Tool;

/// Every namespace of every lab starts with this, followed by the process id of the lab's owner.
pub const PREFIX: &str = "lsn";

/// How long processes in a namespace get to leave after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Held while a namespace or a process is made or a namespace removed. A signal takes it and keeps it until the
/// program has ended, so that nothing new appears behind its back.
static CHANGING: Mutex<()> = Mutex::new(());

/// Makes or removes something that a signal would remove; never returns once a signal does.
pub fn alone<T>(change: impl FnOnce() -> T) -> T {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    change()
}

/// Names under `/run/netns` that start with `prefix`.
pub fn namespaces(prefix: &str) -> Vec<String> {
    entries(Path::new("/run/netns"), prefix)
}

fn entries(folder: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Kills what runs in the namespace, then removes it. Best effort: runs in destructors.
pub fn remove_namespace(name: &str) {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let inside = pids(name);
        if inside.is_empty() || Instant::now() > deadline {
            break;
        }
        for pid in inside {
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
    if let Err(error) = Tool::new("ip").args(["netns", "del", name]).run() {
        eprintln!("warning: network namespace {name} is left behind: {error:#}");
    }
}

/// Removes every namespace and temporary folder that starts with `prefix`, which must be a lab's, and says how
/// many namespaces there were.
pub fn clean(prefix: &str) -> usize {
    if prefix.starts_with(PREFIX) { clean_where(prefix, |_| true) } else { 0 }
}

/// As [`clean`], for the labs whose owner has ended.
pub fn clean_abandoned() -> usize {
    clean_where(PREFIX, is_abandoned)
}

fn clean_where(prefix: &str, is_meant: impl Fn(&str) -> bool) -> usize {
    let found =
        namespaces(prefix).into_iter().filter(|name| is_meant(name)).inspect(|name| remove_namespace(name));
    let found = found.count();
    for folder in entries(&std::env::temp_dir(), prefix).into_iter().filter(|name| is_meant(name)) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(folder));
    }
    found
}

/// True if `name` is of a lab whose owner has ended. A name without an owner is nobody's to remove unasked.
fn is_abandoned(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(owner, _)| owner);
    let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
    owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
}

/// On SIGINT or SIGTERM ends what this process started, removes every lab of it and exits with 130.
pub fn on_signal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("start the signal thread")?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        eprintln!("interrupted: removing the lab");
        alone(|| {
            for child in children(process::id()) {
                let _ = kill(child, Signal::SIGKILL);
                // Whoever else waits for it gets nothing more to do.
                let _ = waitpid(child, None);
            }
            clean(&own_prefix());
            process::exit(130)
        })
    });
    Ok(())
}

/// The processes that a process has started and that run, or were not waited for.
pub fn children(of: u32) -> Vec<Pid> {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may have any characters, come the state and the parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(of)
    };
    let all = entries(Path::new("/proc"), "").into_iter().filter_map(|name| name.parse().ok());
    all.filter(is_child).map(Pid::from_raw).collect()
}

/// The prefix shared by all labs of this process.
pub fn own_prefix() -> String {
    format!("{PREFIX}{}-", process::id())
}

fn pids(name: &str) -> Vec<Pid> {
    let listed = Tool::new("ip").args(["netns", "pids", name]).run().unwrap_or_default();
    let own = process::id() as i32;
    listed
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|&pid| pid != own)
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lab_whose_owner_has_ended_is_abandoned() {
        let mut ended = process::Command::new("true").spawn().expect("start a process");
        ended.wait().expect("its end");
        assert!(is_abandoned(&format!("{PREFIX}{}-12ab-switch", ended.id())));
        assert!(!is_abandoned(&format!("{}12ab-switch", own_prefix())));
        assert!(!is_abandoned("lsn-notes") && !is_abandoned("lsnap") && !is_abandoned("lsnx-1-y"));
    }
}
