//! Connections whose addresses a node replaced.

use std::net::IpAddr;

use lastseen_correlate::input::Translation;
use lastseen_packet::observation::FlowKey;

use super::ConvertError;
use crate::v1;

impl From<&FlowKey> for v1::ConnectionTuple {
    fn from(tuple: &FlowKey) -> Self {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec().into(),
            IpAddr::V6(v6) => v6.octets().to_vec().into(),
        };
        Self {
            source: octets(tuple.source),
            destination: octets(tuple.destination),
            source_port: tuple.source_port.into(),
            destination_port: tuple.destination_port.into(),
        }
    }
}

/// A connection by its two tuples, which have the same protocol.
pub fn translated_connection(original: &FlowKey, reply: &FlowKey) -> v1::TranslatedConnection {
    v1::TranslatedConnection {
        protocol: original.protocol.into(),
        original: Some(original.into()),
        reply: Some(reply.into()),
    }
}

impl TryFrom<&v1::TranslatedConnection> for Translation {
    type Error = ConvertError;

    fn try_from(message: &v1::TranslatedConnection) -> Result<Self, ConvertError> {
        let protocol = u8::try_from(message.protocol)
            .map_err(|_| ConvertError::new("protocol", &message.protocol, "a protocol number below 256"))?;
        let tuple = |field, message: &Option<v1::ConnectionTuple>| {
            let message = message.as_ref().ok_or_else(|| ConvertError::new(field, "", "a tuple"))?;
            tuple(protocol, message)
        };
        Ok(Self { original: tuple("original", &message.original)?, reply: tuple("reply", &message.reply)? })
    }
}

fn tuple(protocol: u8, message: &v1::ConnectionTuple) -> Result<FlowKey, ConvertError> {
    let port = |field, value: u32| {
        u16::try_from(value).map_err(|_| ConvertError::new(field, &value, "a port below 65536"))
    };
    let source = address("source", &message.source)?;
    let destination = address("destination", &message.destination)?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(ConvertError::new("destination", &destination, "an address of the source's family"));
    }
    Ok(FlowKey {
        overlay: None,
        source,
        destination,
        protocol,
        source_port: port("source_port", message.source_port)?,
        destination_port: port("destination_port", message.destination_port)?,
    })
}

fn address(field: &'static str, octets: &[u8]) -> Result<IpAddr, ConvertError> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .map_err(|_| ConvertError::new(field, &octets.len(), "4 or 16 bytes long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str, ports: (u16, u16)) -> FlowKey {
        FlowKey {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 17,
            source_port: ports.0,
            destination_port: ports.1,
            ..FlowKey::UNSPECIFIED
        }
    }

    #[test]
    fn connections_survive_the_way_there_and_back() {
        let v4 = (tuple("10.1.0.2", "10.96.0.1", (5, 53)), tuple("10.2.0.2", "10.1.0.2", (53, 5)));
        let v6 = (tuple("fd00::1", "fd00::2", (5, 53)), tuple("fd00::3", "fd00::1", (53, 5)));
        for (original, reply) in [v4, v6] {
            let found = Translation::try_from(&translated_connection(&original, &reply)).unwrap();
            assert_eq!((found.original, found.reply), (original, reply));
        }
    }

    #[test]
    fn what_is_no_connection_is_refused_by_field() {
        let (original, reply) =
            (tuple("10.1.0.2", "10.96.0.1", (5, 53)), tuple("10.2.0.2", "10.1.0.2", (53, 5)));
        let whole = translated_connection(&original, &reply);
        let refused = |change: &dyn Fn(&mut v1::TranslatedConnection)| {
            let mut message = whole.clone();
            change(&mut message);
            Translation::try_from(&message).unwrap_err().field
        };
        assert_eq!(refused(&|m| m.protocol = 256), "protocol");
        assert_eq!(refused(&|m| m.reply = None), "reply");
        assert_eq!(refused(&|m| m.original.as_mut().unwrap().source = vec![1, 2].into()), "source");
        assert_eq!(refused(&|m| m.original.as_mut().unwrap().source = vec![0; 16].into()), "destination");
        assert_eq!(refused(&|m| m.reply.as_mut().unwrap().source_port = 65_536), "source_port");
    }
}
