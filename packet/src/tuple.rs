//! Tuples: which connection a packet belongs to, and the tuple of what answers it.

use crate::decoded::Decoded;
use crate::observation::{FlowKey, protocol};
use crate::observe::flow_key;

/// Echo request and reply as type and code, RFC 792 and RFC 4443.
const ECHOES: [(u8, u16, u16); 2] = [(protocol::ICMP, 0x0800, 0), (protocol::ICMPV6, 0x8000, 0x8100)];

/// The tuple of the innermost packet, without the tunnel around it. Absent where nothing of IP was read.
#[inline]
pub fn tuple(decoded: &Decoded) -> Option<FlowKey> {
    let network = decoded.network.as_ref()?;
    Some(FlowKey { overlay: None, ..flow_key(decoded, network) })
}

impl FlowKey {
    /// The tuple of the answers, absent for messages that have none.
    pub fn reversed(&self) -> Option<Self> {
        let (source_port, destination_port) = match self.protocol {
            protocol::ICMP | protocol::ICMPV6 => (self.source_port, self.answer()?),
            _ => (self.destination_port, self.source_port),
        };
        Some(Self {
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
            ..*self
        })
    }

    fn answer(&self) -> Option<u16> {
        let kind = self.destination_port;
        let mut echoes = ECHOES.into_iter().filter(|(protocol, ..)| *protocol == self.protocol);
        echoes.find_map(|(_, request, reply)| match kind {
            _ if kind == request => Some(reply),
            _ if kind == reply => Some(request),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_swap_the_ends_and_echoes_change_their_type() {
        let udp = FlowKey {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            protocol: protocol::UDP,
            source_port: 1,
            destination_port: 2,
            ..FlowKey::UNSPECIFIED
        };
        let back = udp.reversed().unwrap();
        assert_eq!((back.source, back.source_port, back.destination_port), (udp.destination, 2, 1));
        assert_eq!(back.reversed(), Some(udp));
        let echo = FlowKey { protocol: protocol::ICMP, source_port: 0, destination_port: 0x0800, ..udp };
        assert_eq!(echo.reversed().map(|reply| reply.destination_port), Some(0));
        let unreachable = FlowKey { destination_port: 0x0300, ..echo };
        assert_eq!(unreachable.reversed(), None);
    }
}
