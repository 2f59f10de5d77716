//! Sets and maps: how long their keys and values are, which says of how many registers one is made.

use std::collections::BTreeMap;

use crate::netlink::attributes::{be_u32, find, text};

// `enum nft_set_attributes`.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const KEY_BYTES: u16 = 5;
const VALUE_BYTES: u16 = 7;

/// Lengths by family, table and name.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<(u8, String, String), Lengths>);

/// Of one set, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) key: u32,
    /// 0: it is no map.
    pub(super) value: u32,
}

impl Sets {
    /// From the attributes of a message.
    pub(super) fn add(&mut self, family: u8, attributes: &[u8]) {
        let of = |kind| find(attributes, kind).map(text);
        let bytes = |kind| find(attributes, kind).and_then(be_u32);
        if let (Some(table), Some(name), Some(key)) = (of(TABLE), of(NAME), bytes(KEY_BYTES)) {
            let value = bytes(VALUE_BYTES).unwrap_or_default();
            self.0.insert((family, table, name), Lengths { key, value });
        }
    }

    /// Absent: it is not known.
    pub(super) fn lengths(&self, family: u8, table: &str, name: &str) -> Option<Lengths> {
        self.0.get(&(family, table.to_owned(), name.to_owned())).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
