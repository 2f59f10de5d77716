//! A generic XDP program on an interface drops a share of the datagrams it receives, in front of its capture tap: that
//! interface never shows them.

use anyhow::Result;

use super::{Cast, Injected, Side};
use crate::lab::bpf::{Attached, Field, Strike};
use crate::lab::plan::VXLAN_PORT;
use crate::scenario::file::{Place, Point};

const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;
/// Ethernet, IPv4, UDP and VXLAN around the inner frame.
const TUNNEL_HEADERS: u16 = 14 + 20 + 8 + 8;

/// `at` must be an interface by which packets come in: the sender's veth, the receiver's NIC or tunnel device.
pub(super) fn inject(cast: Cast<'_>, at: Point, percent: u8) -> Result<Injected<'_>> {
    let node = if at.side == Side::Sender { cast.sender } else { cast.receiver };
    let (from, to) = (&cast.sender.plan, &cast.receiver.plan);
    let ends = |from: [u8; 4], to: [u8; 4]| [Field::Word(26, from), Field::Word(30, to)];
    let mut fields = vec![Field::Half(12, IPV4), Field::Byte(23, UDP)];
    if at.place == Place::Nic {
        fields.extend(ends(from.underlay.octets(), to.underlay.octets()));
        fields.push(Field::Half(36, VXLAN_PORT.to_be_bytes()));
        fields.push(Field::Byte(TUNNEL_HEADERS + 23, UDP));
    } else {
        fields.extend(ends(from.pod.octets(), to.pod.octets()));
    }
    let interface = at.place.interface(&node.plan);
    Ok(Injected::attached(Attached::new(&node.netns, interface, &fields, Strike::Drop { percent })?))
}
