//! What an agent captures on: the machine it runs on, unless a program brings another.

use std::pin::Pin;

use crate::capture::af_packet::AfPacket;
use crate::capture::backend::{Settings, Source, SourceError, Target};
use crate::capture::pcap::Pcap;
use crate::interfaces::{NetlinkError, Snapshot, snapshot};
use crate::job::spec::Backend;

/// The network at one moment, later.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<Snapshot, NetlinkError>> + Send + 'a>>;

/// A machine's interfaces and the packets at them.
pub trait Host: Send + Sync {
    /// The network as it is now.
    fn look(&self) -> Look<'_>;

    /// Opens a handle on one direction of an interface.
    fn open(
        &self,
        backend: Backend,
        target: &Target,
        settings: Settings,
    ) -> Result<Box<dyn Source>, SourceError>;
}

/// The machine this runs on, in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Host for Kernel {
    fn look(&self) -> Look<'_> {
        Box::pin(snapshot())
    }

    fn open(
        &self,
        backend: Backend,
        target: &Target,
        settings: Settings,
    ) -> Result<Box<dyn Source>, SourceError> {
        let af_packet = || AfPacket::open(target, settings).map(|s| Box::new(s) as Box<dyn Source>);
        let pcap = || Pcap::open(target, settings).map(|s| Box::new(s) as Box<dyn Source>);
        match backend {
            Backend::AfPacket => af_packet(),
            Backend::Pcap => pcap(),
            // What the first could not do is the better explanation if neither can.
            Backend::Auto => af_packet().or_else(|error| pcap().map_err(|_| error)),
        }
    }
}
