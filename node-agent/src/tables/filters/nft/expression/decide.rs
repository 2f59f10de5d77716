//! Expressions that compare, and those that end a rule.

use super::super::register::{Field, Held};
use super::super::value::Form;
use super::{Reader, V4, V6, constant, number};
use crate::netlink::attributes::{be_u16, be_u64, find, text};

impl Reader<'_> {
    /// `enum nft_cmp_attributes`.
    pub(super) fn compare(&mut self, data: &[u8]) -> Option<()> {
        let (register, how, value) = (number(data, 1)?, number(data, 2)?, constant(data, 3)?);
        let field = self.registers.field(register)?.clone();
        let sign = *["", "!= ", "< ", "<= ", "> ", ">= "].get(how as usize)?;
        if how == 0 {
            self.learn(&field, value);
        }
        self.say(
            masked(&field, how, value)
                .unwrap_or_else(|| format!("{} {sign}{}", field.whole(), field.form.show(value))),
        );
        Some(())
    }

    /// From here on the packet is of that family.
    fn learn(&mut self, field: &Field, value: &[u8]) {
        if field.mask.is_some() {
            return;
        }
        let family = match (field.text.as_str(), field.form.show(value).as_str()) {
            ("meta nfproto", "ipv4") | ("meta protocol" | "ether type", "ip") => V4,
            ("meta nfproto", "ipv6") | ("meta protocol" | "ether type", "ip6") => V6,
            _ => return,
        };
        self.network = Some(family);
    }

    /// `enum nft_range_attributes`.
    pub(super) fn range(&mut self, data: &[u8]) -> Option<()> {
        let field = self.registers.field(number(data, 1)?)?;
        let sign = *["", "!= "].get(number(data, 2)? as usize)?;
        let [from, to] = [3, 4].map(|kind| constant(data, kind).map(|value| field.form.show(value)));
        let words = format!("{} {sign}{}-{}", field.whole(), from?, to?);
        self.say(words);
        Some(())
    }

    /// `enum nft_lookup_attributes`.
    pub(super) fn lookup(&mut self, data: &[u8]) -> Option<()> {
        let set = find(data, 1).map(text)?;
        let key = self.key(&set, number(data, 2)?)?;
        let not = if number(data, 5).unwrap_or_default() & 1 == 1 { "!= " } else { "" };
        match number(data, 3) {
            None => self.say(format!("{key} {not}@{set}")),
            // `NFT_REG_VERDICT`.
            Some(0) => self.act(format!("{key} vmap @{set}")),
            Some(register) => {
                let bytes = self.sets.lengths(self.family, self.table, &set)?.value;
                let found = Field::new(format!("{key} map @{set}"), Form::Raw, bytes);
                self.registers.load(register, Held::Field(Field { is_found: true, ..found }))?;
            }
        }
        Some(())
    }

    fn key(&self, set: &str, register: u32) -> Option<String> {
        self.registers.key(register, self.sets.lengths(self.family, self.table, set)?.key)
    }

    /// `enum nft_dynset_attributes`.
    pub(super) fn update(&mut self, data: &[u8]) -> Option<()> {
        let set = find(data, 1).map(text)?;
        let how = *["add", "update", "delete"].get(number(data, 3)? as usize)?;
        let key = self.key(&set, number(data, 4)?)?;
        // What it keeps with the element.
        let more =
            if [5, 7, 10].iter().any(|kind| find(data, *kind).is_some()) { " [data not shown]" } else { "" };
        self.say(format!("{how} @{set} {{ {key}{more} }}"));
        Some(())
    }

    /// `enum nft_immediate_attributes`: a constant, or what becomes of the packet.
    pub(super) fn constant(&mut self, data: &[u8]) -> Option<()> {
        let (register, nested) = (number(data, 1)?, find(data, 2)?);
        if let Some(value) = find(nested, 1) {
            return self.registers.load(register, Held::Value(value.to_vec()));
        }
        let verdict = find(nested, 2)?;
        let chain = || find(verdict, 2).map(text);
        // `NF_*` and `NFT_*`.
        let words = match find(verdict, 1).and_then(|code| Some(i32::from_be_bytes(*code.first_chunk()?)))? {
            0 => "drop".to_owned(),
            1 => "accept".to_owned(),
            -1 => "continue".to_owned(),
            -2 => "break".to_owned(),
            -3 => format!("jump {}", chain()?),
            -4 => format!("goto {}", chain()?),
            -5 => "return".to_owned(),
            _ => return None,
        };
        self.act(words);
        Some(())
    }

    /// `enum nft_reject_attributes`.
    pub(super) fn reject(&mut self, data: &[u8]) -> Option<()> {
        let code = find(data, 2).and_then(|value| value.first()).copied().unwrap_or_default();
        self.act(match number(data, 1)? {
            0 => format!("reject with icmp code {code}"),
            1 => "reject with tcp reset".to_owned(),
            2 => format!("reject with icmpx code {code}"),
            _ => return None,
        });
        Some(())
    }

    /// `enum nft_limit_attributes`.
    pub(super) fn limit(&mut self, data: &[u8]) -> Option<()> {
        let big = |kind| find(data, kind).and_then(be_u64);
        let unit = match big(2)? {
            1 => "second",
            60 => "minute",
            3_600 => "hour",
            86_400 => "day",
            604_800 => "week",
            _ => return None,
        };
        let bytes = if number(data, 4).unwrap_or_default() == 1 { " bytes" } else { "" };
        let over = if number(data, 5).unwrap_or_default() & 1 == 1 { "over " } else { "" };
        let burst = number(data, 3).unwrap_or_default();
        self.say(format!("limit rate {over}{}{bytes}/{unit} burst {burst}{bytes}", big(1)?));
        Some(())
    }

    /// `enum nft_quota_attributes`.
    pub(super) fn quota(&mut self, data: &[u8]) -> Option<()> {
        let big = |kind| find(data, kind).and_then(be_u64);
        let over = if number(data, 2).unwrap_or_default() & 1 == 1 { "over " } else { "" };
        self.say(format!("quota {over}{} bytes used {}", big(1)?, big(4).unwrap_or_default()));
        Some(())
    }

    /// `enum nft_connlimit_attributes`.
    pub(super) fn connections(&mut self, data: &[u8]) -> Option<()> {
        let over = if number(data, 2).unwrap_or_default() & 1 == 1 { "over " } else { "" };
        self.say(format!("ct count {over}{}", number(data, 1)?));
        Some(())
    }

    /// `enum nft_log_attributes`.
    pub(super) fn log(&mut self, data: &[u8]) {
        let group = find(data, 1).and_then(be_u16).map(|group| format!(" group {group}"));
        let prefix = find(data, 2).map(|prefix| format!(" prefix \"{}\"", text(prefix)));
        self.say(format!("log{}{}", prefix.unwrap_or_default(), group.unwrap_or_default()));
    }

    /// `enum nft_queue_attributes`.
    pub(super) fn queue(&mut self, data: &[u8]) -> Option<()> {
        let first = find(data, 1).and_then(be_u16)?;
        let count = find(data, 2).and_then(be_u16).unwrap_or(1).max(1);
        let range =
            if count == 1 { String::new() } else { format!("-{}", u32::from(first) + u32::from(count) - 1) };
        let bypass = if find(data, 3).and_then(be_u16).unwrap_or_default() & 1 == 1 { " bypass" } else { "" };
        self.act(format!("queue num {first}{range}{bypass}"));
        Some(())
    }

    /// `enum nft_objref_attributes`.
    pub(super) fn object(&mut self, data: &[u8]) -> Option<()> {
        let kinds = ["", "counter", "quota", "ct helper", "limit", "ct count", "tunnel", "ct timeout"];
        let kind = kinds.get(number(data, 1)? as usize).filter(|kind| !kind.is_empty())?;
        self.say(format!("{kind} name {}", find(data, 2).map(text)?));
        Some(())
    }
}

/// Where bits are compared, what nft(8) writes for it; absent: nothing shorter than all of it.
fn masked(field: &Field, how: u32, value: &[u8]) -> Option<String> {
    let mask = field.mask.as_ref()?;
    let is_zero = value.iter().all(|byte| *byte == 0);
    match (how, field.form) {
        // Any of these states: the bits are not all zero.
        (1, Form::States) if is_zero => Some(format!("{} {}", field.text, field.form.show(mask))),
        (0, Form::States) if is_zero => Some(format!("{} ! {}", field.text, field.form.show(mask))),
        (0 | 1, Form::V4 | Form::V6) if matches!(mask.len(), 4 | 16) => {
            let (length, not) = (field.form.prefix_length(mask)?, if how == 1 { "!= " } else { "" });
            Some(format!("{} {not}{}/{length}", field.text, field.form.show(value)))
        }
        (0, _) => Some(format!("{} == {}", field.whole(), field.form.show(value))),
        _ => None,
    }
}
