//! Traffic between pods, and the log of what was sent and what arrived.
//!
//! Sockets are made inside the pods' namespaces and driven from ordinary threads.

mod fragments;
pub mod ledger;
pub mod log;
pub mod numbering;
pub mod sink;
pub mod tcp;
pub mod udp;
pub mod witness;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::lab::netns::Netns;
use log::{TcpLog, UdpLog};
use sink::{Reader, Sink};
use tcp::TcpPlan;
use udp::UdpPlan;

/// One pod as an end of a flow.
#[derive(Debug, Clone, Copy)]
pub struct End<'lab> {
    /// The pod's namespace.
    pub netns: &'lab Netns,
    /// The pod's address.
    pub address: IpAddr,
}

/// What one pod sends to another: a UDP stream, TCP connections, or both.
#[derive(Debug)]
pub struct Conversation<'lab> {
    /// The pod that starts.
    pub from: End<'lab>,
    /// The pod that listens.
    pub to: End<'lab>,
    /// Address that is dialled in place of the receiver's, where something on the way puts that in its place.
    pub dialled: Option<IpAddr>,
    /// Port the receiver listens on, for UDP and TCP alike.
    pub port: u16,
    /// One-way datagrams.
    pub udp: Option<UdpPlan>,
    /// TCP connections, one after the other.
    pub tcp: Vec<TcpPlan>,
    /// How datagrams are read.
    pub reader: Reader,
}

/// Ground truth of one conversation.
#[derive(Debug, Clone, Serialize)]
pub struct ConversationLog {
    /// Address of the pod that starts.
    pub source: IpAddr,
    /// Address and port that were dialled.
    pub destination: SocketAddr,
    /// What happened to the datagrams; absent when none were planned.
    pub udp: Option<UdpLog>,
    /// What happened to each TCP connection, in order.
    pub tcp: Vec<TcpLog>,
}

impl Conversation<'_> {
    /// Uses these ports.
    pub fn take_ports(&mut self, listening: u16, sending: u16) {
        self.port = listening;
        if let Some(udp) = &mut self.udp {
            udp.source_port = sending;
        }
    }

    fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dialled.unwrap_or(self.to.address), self.port)
    }

    /// Sends everything, at the latest until `deadline`, and collects both ends' logs.
    fn run(&self, deadline: Instant) -> Result<ConversationLog> {
        let destination = self.destination();
        let listening = SocketAddr::new(self.to.address, self.port);
        let sink = Sink::start(self.to.netns, listening, deadline, self.reader)?;
        let (sent, tcp) = thread::scope(|scope| {
            let udp =
                scope.spawn(|| self.udp.as_ref().map(|plan| plan.send(self.from, destination, deadline)));
            let tcp: Result<Vec<_>> =
                self.tcp.iter().map(|plan| plan.run(self.from, destination, deadline)).collect();
            (udp.join(), tcp)
        });
        let sent = sent.map_err(|_| anyhow!("the UDP sender to {destination} panicked"))?.transpose()?;
        let received = sink.finish();
        let udp = sent.map(|sent| UdpLog { received, ..sent });
        Ok(ConversationLog { source: self.from.address, destination, udp, tcp: tcp? })
    }
}

/// Runs all conversations at the same time; they are silent again when this returns.
pub fn run(conversations: &[&Conversation<'_>], deadline: Instant) -> Result<Vec<ConversationLog>> {
    thread::scope(|scope| {
        let running: Vec<_> =
            conversations.iter().map(|&one| (one, scope.spawn(move || one.run(deadline)))).collect();
        let finished = running.into_iter().map(|(one, thread)| {
            let from_to = format!("conversation {} → {}", one.from.address, one.destination());
            thread.join().map_err(|_| anyhow!("{from_to} panicked"))?.context(from_to)
        });
        finished.collect()
    })
}
