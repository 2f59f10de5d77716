//! From a frame to rows: decode, leave out what nobody asked for, observe.

use std::net::{IpAddr, SocketAddr};

use lastseen_packet::observation::{FlowKey, Observation};
use lastseen_packet::{
    Capture, DecodeConfig, Decoded, IdentityKey, LinkType, Sampler, Threshold, Transport, decode, observe,
};

use super::backend::Frame;
use crate::conntrack::Translated;
use crate::filter::Filter;

/// The TCP endpoints of the fabric itself, whose connections are not captured.
#[derive(Clone, Debug, Default)]
pub struct OwnEndpoints(Vec<SocketAddr>);

impl OwnEndpoints {
    /// Endpoints; an unspecified address means the port on every address.
    pub fn new(endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut all: Vec<_> = endpoints.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    fn touches(&self, decoded: &Decoded) -> bool {
        let (Some(network), Transport::Tcp(tcp)) = (&decoded.network, &decoded.transport) else {
            return false;
        };
        self.is_one(network.source, tcp.source_port) || self.is_one(network.destination, tcp.destination_port)
    }

    fn is_one(&self, address: IpAddr, port: u16) -> bool {
        let mut endpoints = self.0.iter();
        endpoints.any(|own| own.port() == port && (own.ip() == address || own.ip().is_unspecified()))
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Rows were made.
    Recorded,
    /// The filter did not match.
    Filtered,
    /// It belongs to the fabric.
    Own,
    /// No IP packet.
    Undecoded,
    /// Cut by the snap length, malformed, or without what the filter asks for.
    Unreadable,
    /// No segment of it was selected.
    SampledOut,
}

/// Reads frames the way one capture asks for. One per worker thread.
pub struct Lens {
    config: DecodeConfig,
    key: IdentityKey,
    filter: Filter,
    own: OwnEndpoints,
    translated: Option<Translated>,
    asked: Threshold,
    sampler: Sampler,
    decoded: Decoded,
}

impl Lens {
    /// A lens.
    pub fn new(config: DecodeConfig, key: IdentityKey, filter: Filter, own: OwnEndpoints) -> Self {
        let sampler = Sampler::new(key, Threshold::ALL);
        let (asked, translated) = (Threshold::ALL, None);
        Self { config, key, filter, own, translated, asked, sampler, decoded: Decoded::default() }
    }

    /// Leaves out what is not selected.
    #[must_use]
    pub fn selecting(self, asked: Threshold) -> Self {
        Self { sampler: Sampler::new(self.key, asked), asked, ..self }
    }

    /// By what packets are to be selected, unless there is a reason to select fewer.
    pub fn asked(&self) -> Threshold {
        self.asked
    }

    /// Selects the packets to come by `threshold`.
    pub fn select(&mut self, threshold: Threshold) {
        self.sampler = Sampler::new(self.key, threshold);
    }

    /// Matches packets under every tuple that translation gives them.
    #[must_use]
    pub fn following(self, translated: Option<Translated>) -> Self {
        Self { translated, ..self }
    }

    /// To be called now and then while no frames come.
    pub fn tick(&mut self) {
        if let Some(translated) = &mut self.translated {
            translated.tick();
        }
    }

    /// Hands the rows of `frame` to `emit` and says what became of it.
    #[inline]
    pub fn look(
        &mut self,
        link: LinkType,
        frame: &Frame<'_>,
        emit: &mut impl FnMut(&FlowKey, Observation),
    ) -> Seen {
        if let Some(refused) = self.refuse(link, frame) {
            return refused;
        }
        let Self { decoded, key, sampler, .. } = self;
        let capture = Capture { time_nanos: frame.time_nanos, gso: frame.gso };
        let mut is_selected = false;
        let observed = observe(decoded, frame.bytes, capture, key, &mut |flow, row| {
            if sampler.keeps(flow, &row) {
                is_selected = true;
                emit(flow, row);
            }
        });
        match observed {
            Ok(()) if is_selected => Seen::Recorded,
            Ok(()) => Seen::SampledOut,
            Err(_) => Seen::Undecoded,
        }
    }

    /// Decodes `frame`. Says why if that cannot be done, or if nobody asked for it.
    #[inline]
    fn refuse(&mut self, link: LinkType, frame: &Frame<'_>) -> Option<Seen> {
        let Self { config, filter, own, translated, decoded, .. } = self;
        let bytes = frame.bytes;
        if decode(config, link, bytes, frame.original_length, decoded).is_err() {
            return Some(Seen::Unreadable);
        }
        if decoded.network.is_none() {
            return Some(Seen::Undecoded);
        }
        if own.touches(decoded) {
            return Some(Seen::Own);
        }
        match filter.matches(decoded, bytes, frame.gso) {
            Some(true) => None,
            Some(false) => {
                let known = translated.as_mut();
                let is_known =
                    known.is_some_and(|known| known.matches(filter, decoded, bytes, frame.time_nanos));
                (!is_known).then_some(Seen::Filtered)
            }
            None => Some(Seen::Unreadable),
        }
    }
}
