//! Expressions that load a register, or set something of the packet from one.

use super::super::register::{Field, Held};
use super::super::value::{Form, hex};
use super::{Reader, V4, V6, constant, number};
use crate::netlink::attributes::find;

/// `NFT_PAYLOAD_*`.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `IFNAMSIZ`.
const NAME_BYTES: u32 = 16;

impl Reader<'_> {
    pub(super) fn payload(&mut self, data: &[u8]) -> Option<()> {
        let [base, offset, bytes] = [2, 3, 4].map(|kind| number(data, kind));
        let field = self.packet(base?, offset?, bytes?);
        match (number(data, 1), number(data, 5)) {
            (Some(register), None) => self.registers.load(register, Held::Field(field)),
            (None, Some(register)) => self.set(&field.text, field.form, register),
            _ => None,
        }
    }

    /// Bytes of the packet, by name where that is certain.
    fn packet(&self, base: u32, offset: u32, bytes: u32) -> Field {
        let (text, form) = match (base, self.network, offset, bytes) {
            (NETWORK, Some(V4), 12, 1..=4) => ("ip saddr", Form::V4),
            (NETWORK, Some(V4), 16, 1..=4) => ("ip daddr", Form::V4),
            (NETWORK, Some(V4), 9, 1) => ("ip protocol", Form::Protocol),
            (NETWORK, Some(V4), 8, 1) => ("ip ttl", Form::Number),
            (NETWORK, Some(V4), 2, 2) => ("ip length", Form::Number),
            (NETWORK, Some(V6), 8, 1..=16) => ("ip6 saddr", Form::V6),
            (NETWORK, Some(V6), 24, 1..=16) => ("ip6 daddr", Form::V6),
            (NETWORK, Some(V6), 6, 1) => ("ip6 nexthdr", Form::Protocol),
            (NETWORK, Some(V6), 7, 1) => ("ip6 hoplimit", Form::Number),
            (TRANSPORT, _, 0, 2) => ("th sport", Form::Number),
            (TRANSPORT, _, 2, 2) => ("th dport", Form::Number),
            (LINK, _, 0, 6) => ("ether daddr", Form::Link),
            (LINK, _, 6, 6) => ("ether saddr", Form::Link),
            (LINK, _, 12, 2) => ("ether type", Form::Ether),
            _ => {
                let names = ["ll", "nh", "th", "ih"];
                let base = names.get(base as usize).map_or_else(|| base.to_string(), ToString::to_string);
                let [offset, length] = [offset, bytes].map(|bytes| u64::from(bytes) * 8);
                return Field::new(format!("@{base},{offset},{length}"), Form::Raw, bytes);
            }
        };
        Field::new(text, form, bytes)
    }

    /// `NFT_META_*`.
    pub(super) fn meta(&mut self, data: &[u8]) -> Option<()> {
        let (text, form, bytes) = match number(data, 2)? {
            0 => ("meta length", Form::Host, 4),
            1 => ("meta protocol", Form::Ether, 2),
            2 => ("meta priority", Form::Mark, 4),
            3 => ("meta mark", Form::Mark, 4),
            4 => ("iif", Form::Host, 4),
            5 => ("oif", Form::Host, 4),
            6 => ("iifname", Form::Name, NAME_BYTES),
            7 => ("oifname", Form::Name, NAME_BYTES),
            8 => ("iiftype", Form::Host, 2),
            9 => ("oiftype", Form::Host, 2),
            10 => ("meta skuid", Form::Host, 4),
            11 => ("meta skgid", Form::Host, 4),
            12 => ("meta nftrace", Form::Host, 1),
            15 => ("meta nfproto", Form::Family, 1),
            16 => ("meta l4proto", Form::Protocol, 1),
            17 => ("meta ibrname", Form::Name, NAME_BYTES),
            18 => ("meta obrname", Form::Name, NAME_BYTES),
            19 => ("meta pkttype", Form::Host, 1),
            20 => ("meta cpu", Form::Host, 4),
            21 => ("iifgroup", Form::Host, 4),
            22 => ("oifgroup", Form::Host, 4),
            23 => ("meta cgroup", Form::Host, 4),
            _ => return None,
        };
        match (number(data, 1), number(data, 3)) {
            (Some(register), None) => {
                self.registers.load(register, Held::Field(Field::new(text, form, bytes)))
            }
            (None, Some(register)) => self.set(text, form, register),
            _ => None,
        }
    }

    /// `NFT_CT_*`.
    pub(super) fn connection(&mut self, data: &[u8]) -> Option<()> {
        let (text, form, bytes) = match number(data, 2)? {
            0 => ("state", Form::States, 4),
            1 => ("direction", Form::Host, 1),
            2 => ("status", Form::Mark, 4),
            3 => ("mark", Form::Mark, 4),
            10 => ("protocol", Form::Protocol, 1),
            11 => ("proto-src", Form::Number, 2),
            12 => ("proto-dst", Form::Number, 2),
            17 => ("zone", Form::Host, 2),
            19 => ("ip saddr", Form::V4, 4),
            20 => ("ip daddr", Form::V4, 4),
            21 => ("ip6 saddr", Form::V6, 16),
            22 => ("ip6 daddr", Form::V6, 16),
            _ => return None,
        };
        let direction = match find(data, 3).and_then(|value| value.first()) {
            Some(0) => "original ",
            Some(1) => "reply ",
            _ => "",
        };
        let text = format!("ct {direction}{text}");
        match (number(data, 1), number(data, 4)) {
            (Some(register), None) => {
                self.registers.load(register, Held::Field(Field::new(text, form, bytes)))
            }
            (None, Some(register)) => self.set(&text, form, register),
            _ => None,
        }
    }

    /// What routing says of the packet, `enum nft_fib_attributes`.
    pub(super) fn route(&mut self, data: &[u8]) -> Option<()> {
        const FLAGS: [(u32, &str); 5] = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif")];
        let (result, form, bytes) = match number(data, 2)? {
            1 => ("oif", Form::Host, 4),
            2 => ("oifname", Form::Name, NAME_BYTES),
            3 => ("type", Form::AddressType, 4),
            _ => return None,
        };
        let flags = number(data, 3)?;
        // Of the others one says that only whether there is a route is asked.
        let form = if flags & !0x1f == 0 { form } else { Form::Raw };
        let by: Vec<&str> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
        let field = Field::new(format!("fib {} {result}", by.join(" . ")), form, bytes);
        self.registers.load(number(data, 1)?, Held::Field(field))
    }

    /// Numbers in turn or at random, `enum nft_ng_attributes`.
    pub(super) fn number(&mut self, data: &[u8]) -> Option<()> {
        let kind = match number(data, 3)? {
            0 => "inc",
            1 => "random",
            _ => return None,
        };
        let offset = number(data, 4).filter(|offset| *offset > 0);
        let offset = offset.map_or_else(String::new, |offset| format!(" offset {offset}"));
        let text = format!("numgen {kind} mod {}{offset}", number(data, 2)?);
        self.registers.load(number(data, 1)?, Held::Field(Field::new(text, Form::Host, 4)))
    }

    /// Of the route, `enum nft_rt_attributes`.
    pub(super) fn path(&mut self, data: &[u8]) -> Option<()> {
        let (text, form, bytes) = match number(data, 2)? {
            0 => ("rt classid", Form::Host, 4),
            1 => ("rt nexthop", Form::V4, 4),
            2 => ("rt nexthop", Form::V6, 16),
            3 => ("rt mtu", Form::Number, 2),
            _ => return None,
        };
        self.registers.load(number(data, 1)?, Held::Field(Field::new(text, form, bytes)))
    }

    /// Of the socket that would have the packet, `enum nft_socket_attributes`.
    pub(super) fn socket(&mut self, data: &[u8]) -> Option<()> {
        let (text, form, bytes) = match number(data, 1)? {
            0 => ("socket transparent", Form::Host, 1),
            1 => ("socket mark", Form::Mark, 4),
            2 => ("socket wildcard", Form::Host, 1),
            _ => return None,
        };
        self.registers.load(number(data, 2)?, Held::Field(Field::new(text, form, bytes)))
    }

    /// Options of TCP, `enum nft_exthdr_attributes`; of others it is not known what they are called.
    pub(super) fn option(&mut self, data: &[u8]) -> Option<()> {
        const TCP: u32 = 1;
        /// RFC 9293 §3.2.
        const SEGMENT_SIZE: u8 = 2;
        if number(data, 6)? != TCP {
            return None;
        }
        let kind = *find(data, 2)?.first()?;
        let (offset, bytes) = (number(data, 3)?, number(data, 4)?);
        let text = if (kind, offset, bytes) == (SEGMENT_SIZE, 2, 2) {
            "tcp option maxseg size".to_owned()
        } else {
            format!("tcp option @{kind},{},{}", u64::from(offset) * 8, u64::from(bytes) * 8)
        };
        match (number(data, 1), number(data, 7)) {
            // With flags it is loaded whether the option is there.
            (Some(register), None) if number(data, 5).unwrap_or_default() == 0 => {
                self.registers.load(register, Held::Field(Field::new(text, Form::Number, bytes)))
            }
            (None, Some(register)) => self.set(&text, Form::Number, register),
            _ => None,
        }
    }

    /// `enum nft_bitwise_attributes`.
    pub(super) fn bits(&mut self, data: &[u8]) -> Option<()> {
        let [source, target] = [1, 2].map(|kind| number(data, kind));
        let mut field = self.registers.field(source?)?.clone();
        match number(data, 6).unwrap_or_default() {
            0 => {
                let (mask, flipped) = (constant(data, 4)?, constant(data, 5)?);
                if field.mask.is_none() && flipped.iter().all(|byte| *byte == 0) {
                    field.mask = Some(mask.to_vec());
                } else {
                    let form = if field.form == Form::Mark { Form::Mark } else { Form::Raw };
                    let text = format!("({} & {} ^ {})", field.whole(), form.show(mask), form.show(flipped));
                    field = Field::new(text, form, field.bytes);
                }
            }
            shift @ (1 | 2) => {
                let sign = if shift == 1 { "<<" } else { ">>" };
                let by = Form::Host.show(constant(data, 7)?);
                field = Field::new(format!("({} {sign} {by})", field.whole()), Form::Raw, field.bytes);
            }
            _ => return None,
        }
        self.registers.load(target?, Held::Field(field))
    }

    fn set(&mut self, what: &str, form: Form, register: u32) -> Option<()> {
        let value = match self.registers.get(register)? {
            // Of fewer bits than a register has, the rest is no part of it.
            Held::Value(value) if form == Form::Raw => hex(value),
            _ => self.registers.show(register, form)?,
        };
        self.say(format!("{what} set {value}"));
        Some(())
    }
}
