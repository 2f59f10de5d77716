//! A rule: expressions, each of which looks at the packet, loads a register, or decides.

use super::super::Counters;
use super::expression::Reader;
use super::set::Sets;
use crate::netlink::attributes::{be_u64, each, find, text};

// `enum nft_rule_attributes` and those nested in it.
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const USER_DATA: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `NFTNL_UDATA_RULE_COMMENT`, libnftnl/udata.h.
const COMMENT: u8 = 0;

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Rule {
    /// `NFPROTO_*`.
    pub(in super::super) family: u8,
    pub(in super::super) table: String,
    pub(in super::super) chain: String,
    /// By which nft(8) deletes it.
    pub(in super::super) handle: Option<u64>,
    /// What came to its counter, if it has one.
    pub(in super::super) counters: Option<Counters>,
    /// What it looks at, and what it does beside deciding; what cannot be shown stands in brackets.
    pub(in super::super) text: String,
    /// What becomes of packets.
    pub(in super::super) action: String,
    pub(in super::super) comment: String,
}

impl Rule {
    /// From the attributes of a message; absent: it is of no chain.
    pub(super) fn read(family: u8, attributes: &[u8], sets: &Sets) -> Option<Self> {
        let (mut rule, mut expressions) = (Self { family, ..Self::default() }, &[][..]);
        for (kind, value) in each(attributes) {
            match kind {
                TABLE => rule.table = text(value),
                CHAIN => rule.chain = text(value),
                HANDLE => rule.handle = be_u64(value),
                EXPRESSIONS => expressions = value,
                USER_DATA => rule.comment = comment(value),
                _ => {}
            }
        }
        if rule.table.is_empty() || rule.chain.is_empty() {
            return None;
        }
        let mut reader = Reader::new(family, &rule.table, sets);
        for (_, expression) in each(expressions) {
            let name = find(expression, EXPRESSION_NAME).map(text).unwrap_or_default();
            reader.read(&name, find(expression, EXPRESSION_DATA).unwrap_or_default());
        }
        (rule.text, rule.action) = (reader.words.join(" "), reader.actions.join(" "));
        rule.counters = reader.counters;
        if rule.comment.is_empty() {
            rule.comment = reader.comments.join("; ");
        }
        Some(rule)
    }
}

/// Of the data that nft(8) keeps with a rule: kind, length, value.
fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let Some((value, others)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == COMMENT {
            return text(value);
        }
        data = others;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_other_data() {
        assert_eq!(comment(b"\x01\x02ab\x00\x05drop\0"), "drop");
        for cut in [&b"\x00\x05dro"[..], b"\x01\xffab", b"\x00", b""] {
            assert_eq!(comment(cut), "");
        }
    }
}
