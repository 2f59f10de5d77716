//! The registers of a rule, as far as it is known what is in them: expressions load them, others look at them.

use std::collections::BTreeMap;

use super::value::Form;

/// A register holds so many bytes, and what is longer goes on in the next (`NFT_REG32_SIZE`).
const BYTES: u32 = 4;
/// `NFT_REG_4`, `NFT_REG32_00` and `NFT_REG32_15`.
const LAST_LONG: u32 = 4;
const FIRST_SHORT: u32 = 8;
const LAST_SHORT: u32 = 23;

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// These bytes.
    Value(Vec<u8>),
    /// Something of the packet.
    Field(Field),
}

/// Something of the packet, or of what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// As nft(8) calls it.
    pub(super) text: String,
    /// How constants look that it is compared with.
    pub(super) form: Form,
    /// These bits of it.
    pub(super) mask: Option<Vec<u8>>,
    /// How long it is.
    pub(super) bytes: u32,
    /// It was found in a map, and may be several values one after the other.
    pub(super) is_found: bool,
}

impl Field {
    pub(super) fn new(text: impl Into<String>, form: Form, bytes: u32) -> Self {
        Self { text: text.into(), form, mask: None, bytes, is_found: false }
    }

    /// With its mask.
    pub(super) fn whole(&self) -> String {
        match &self.mask {
            Some(mask) => format!("{} & {}", self.text, self.form.show(mask)),
            None => self.text.clone(),
        }
    }
}

/// By place, in units of [`BYTES`].
#[derive(Debug, Default)]
pub(super) struct Registers(BTreeMap<u32, Held>);

/// Both ways to number a register lead to a place, as `nft_parse_register` has it.
fn place(register: u32) -> Option<u32> {
    match register {
        1..=LAST_LONG => Some((register - 1) * 4),
        FIRST_SHORT..=LAST_SHORT => Some(register - FIRST_SHORT),
        _ => None,
    }
}

impl Registers {
    /// What was there before is gone.
    pub(super) fn load(&mut self, register: u32, held: Held) -> Option<()> {
        let place = place(register)?;
        let bytes = match &held {
            Held::Value(value) => value.len() as u32,
            Held::Field(field) => field.bytes,
        };
        let end = place.saturating_add(bytes.div_ceil(BYTES).max(1));
        self.0.retain(|other, _| !(place..end).contains(other));
        self.0.insert(place, held);
        Some(())
    }

    /// Absent: it is not known what it holds.
    pub(super) fn get(&self, register: u32) -> Option<&Held> {
        self.0.get(&place(register)?)
    }

    /// The field in it.
    pub(super) fn field(&self, register: u32) -> Option<&Field> {
        match self.get(register)? {
            Held::Field(field) => Some(field),
            Held::Value(_) => None,
        }
    }

    /// Whether what it holds was found in a map together with what is in a register before it.
    pub(super) fn is_rest(&self, register: u32) -> bool {
        let Some(place) = place(register) else { return false };
        let before = self.0.range(..place).next_back();
        before.is_some_and(|(begin, held)| match held {
            Held::Field(field) => field.is_found && place < begin + field.bytes.div_ceil(BYTES),
            Held::Value(_) => false,
        })
    }

    /// What the register holds, a constant in this form.
    pub(super) fn show(&self, register: u32, form: Form) -> Option<String> {
        Some(match self.get(register)? {
            Held::Value(value) => form.show(value),
            Held::Field(field) => field.whole(),
        })
    }

    /// A key of so many bytes from a register on: `ip saddr . th dport`.
    pub(super) fn key(&self, register: u32, bytes: u32) -> Option<String> {
        let (mut at, end) = (place(register)?, place(register)?.checked_add(bytes.div_ceil(BYTES))?);
        let mut parts = Vec::new();
        while at < end {
            let Some(Held::Field(field)) = self.0.get(&at) else { return None };
            parts.push(field.whole());
            at += field.bytes.div_ceil(BYTES).max(1);
        }
        (at == end).then(|| parts.join(" . "))
    }

    /// Nothing is known of them any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str, bytes: u32) -> Held {
        Held::Field(Field::new(text, Form::Number, bytes))
    }

    #[test]
    fn both_ways_to_number_a_register_lead_to_the_same() {
        let mut registers = Registers::default();
        registers.load(1, field("ip saddr", 4)).unwrap();
        registers.load(9, field("th dport", 2)).unwrap();
        assert_eq!(registers.key(8, 8).as_deref(), Some("ip saddr . th dport"));
        assert_eq!(registers.key(1, 4).as_deref(), Some("ip saddr"));
        assert_eq!(registers.key(1, 12), None, "nothing is known of the rest");
        registers.load(1, field("ip6 saddr", 16)).unwrap();
        assert_eq!(registers.get(9), None, "it was overwritten");
        assert_eq!(registers.key(1, 4), None, "the key is a part of it only");
        for none in [0, 5, 7, 24, u32::MAX] {
            assert_eq!(registers.load(none, field("x", 4)), None);
        }
    }
}
