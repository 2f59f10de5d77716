//! One named network namespace that is removed when its owner is dropped.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use super::cleanup;
use super::command::Tool;

/// How long an interface may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace under `/run/netns`, removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates the namespace and brings its loopback up.
    pub fn create(name: &str) -> Result<Self> {
        cleanup::alone(|| Tool::new("ip").args(["netns", "add", name]).run())?;
        let netns = Self { name: name.to_owned() };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread that has entered the namespace. Sockets and processes it makes stay in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let entered = scope.spawn(move || {
                become_part_of(&self.name)?;
                work()
            });
            entered.join().map_err(|_| anyhow!("work inside network namespace {} panicked", self.name))?
        })
    }

    /// Runs one or more lines of `ip` commands inside the namespace; the first failing line is an error.
    pub fn ip(&self, lines: &str) -> Result<()> {
        Tool::new("ip").args(["-n", &self.name, "-batch", "-"]).input(lines).run().map(drop)
    }

    /// Waits until the kernel passes packets through an interface: it takes note of a link a moment after it is there.
    pub fn wait_until_up(&self, interface: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.run("ip", &["-o", "link", "show", "dev", interface])?.contains(" state UP ") {
            if Instant::now() > deadline {
                bail!("{interface} does not come up in {}", self.name);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Runs lines of `bridge` commands inside the namespace.
    pub fn bridge(&self, lines: &str) -> Result<()> {
        Tool::new("bridge").args(["-n", &self.name, "-batch", "-"]).input(lines).run().map(drop)
    }

    /// Loads an nftables script inside the namespace.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.enter(|| Tool::new("nft").args(["-f", "-"]).input(script).run().map(drop))
    }

    /// Runs an external tool inside the namespace and returns its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.enter(|| Tool::new(program).args(arguments).run())
    }

    /// Writes one sysctl, named with slashes: `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key);
        self.enter(|| std::fs::write(&path, value).with_context(|| format!("write {}", path.display())))
    }
}

/// Moves the calling thread into namespace `name` for the rest of its life.
pub fn become_part_of(name: &str) -> Result<()> {
    let path = PathBuf::from("/run/netns").join(name);
    let handle = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    setns(handle, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {} (needs root)", path.display()))
}

impl Drop for Netns {
    fn drop(&mut self) {
        cleanup::alone(|| cleanup::remove_namespace(&self.name));
    }
}
