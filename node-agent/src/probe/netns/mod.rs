//! Threads in network namespaces of this node.

mod holder;

use std::fmt::Display;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::{io, thread};

use lastseen_proto::place::Place;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// Where `ip netns` and container runtimes keep names of namespaces.
const NAMED: &str = "/run/netns";
/// Threads of one source that may wait for a resolver.
const RESOLVING: usize = 4;

/// Moves this thread into the namespace.
fn enter(place: &Place) -> Result<(), String> {
    match place {
        Place::Host => Ok(()),
        Place::Named(name) => enter_by_path(place, &Path::new(NAMED).join(name)),
        Place::Process(process) => enter_by_path(place, &of_process(process)),
        Place::Holder(address) => holder::enter(*address),
    }
}

fn of_process(process: impl Display) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/ns/net"))
}

fn enter_by_path(place: &Place, path: &Path) -> Result<(), String> {
    let namespace = File::open(path).map_err(|error| gone(place, &error))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EPERM => cannot_enter(place),
        Errno::EINVAL => format!("netns: {} is no network namespace", path.display()),
        errno => format!("netns: {place} cannot be entered: {errno}"),
    })
}

fn cannot_enter(place: &Place) -> String {
    format!("netns: {place} cannot be entered: the agent lacks SYS_ADMIN; see `ctl doctor`")
}

fn gone(place: &Place, error: &io::Error) -> String {
    match (place, error.kind()) {
        (Place::Process(process), io::ErrorKind::NotFound) => {
            format!("netns: there is no process {process} on this node")
        }
        (_, io::ErrorKind::NotFound) => {
            format!(
                "netns: there is no {place} on this node; `ip netns list` there shows those that have a name"
            )
        }
        _ => format!("netns: {place} cannot be opened: {error}"),
    }
}

/// Runs what `work` makes on a thread of its own in the namespace, until it is done. Whatever it starts is there too: new
/// threads are in the namespace of who starts them. `work` gets what went wrong on the way there.
pub fn run_in<F: Future<Output = ()>>(
    place: &Place,
    name: &str,
    work: impl FnOnce(Result<(), String>) -> F + Send + 'static,
) -> io::Result<()> {
    let (place, builder) = (place.clone(), thread::Builder::new().name(name.to_owned()));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(RESOLVING).build()?;
    builder.spawn(move || {
        let entered = enter(&place);
        runtime.block_on(work(entered));
        // A resolver that does not answer must not hold the thread.
        runtime.shutdown_background();
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_so() {
        let enter = |place: &str| enter(&place.parse().unwrap()).unwrap_err();
        assert!(enter("no-such-namespace").contains("there is no no-such-namespace"));
        assert!(enter("4294967295").contains("no process 4294967295"));
        assert!(enter("@192.0.2.77").contains("no network namespace of this node has 192.0.2.77"));
    }
}
