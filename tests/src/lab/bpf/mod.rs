//! Small eBPF programs on interfaces: where no other tool of the lab reaches, in front of an interface's capture tap
//! (XDP) and past it (`bpf_redirect_peer`).
//!
//! A program counts the packets it strikes in a map of its own. Program, map and attachment live as long as
//! [`Attached`].

mod call;
mod code;

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::netns::Netns;
pub use code::{Field, Strike};

/// A program at work on an interface; dropping it takes the program away.
#[derive(Debug)]
pub struct Attached {
    counter: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Attached {
    /// Puts a program in front of everything `interface` of `netns` receives. It strikes the packets of which all of
    /// `fields` are as said, and passes on the others.
    pub fn new(netns: &Netns, interface: &str, fields: &[Field], strike: Strike) -> Result<Self> {
        let index = index(netns, interface)?;
        let counter = call::make_counter().context("make the program's counter")?;
        let code = code::assemble(fields, strike, &counter);
        let kind = strike.kind();
        let program = call::load(kind, &code).context("load the program")?;
        let attach = || call::attach(kind, &program, index).with_context(|| format!("attach to {interface}"));
        let link = netns.enter(attach)?;
        Ok(Self { counter, _program: program, _link: link })
    }

    /// Packets struck so far.
    pub fn struck(&self) -> Result<u64> {
        call::read_counter(&self.counter).context("read the program's counter")
    }
}

/// Index of an interface in its namespace.
pub fn index(netns: &Netns, interface: &str) -> Result<u32> {
    netns.enter(|| nix::net::if_::if_nametoindex(interface).with_context(|| format!("find {interface}")))
}
