//! Raw accesses in the text of an expression: `proto[offset]` and `proto[offset:size]`, see pcap-filter(7).
//!
//! libpcap has accepted the text before, so brackets are balanced and every opening one belongs to an access.

/// Offsets that have names.
const OFFSETS: [(&str, u32); 5] =
    [("tcpflags", 13), ("icmptype", 0), ("icmpcode", 1), ("icmp6type", 0), ("icmp6code", 1)];
/// Flags that are decided when a segment is made: segments with them are neither merged nor split.
const FIXED_FLAGS: [(&str, u32); 2] = [("tcp-syn", 0x02), ("tcp-rst", 0x04)];

const OPERATORS: [&str; 8] = [">=", "<=", "!=", "==", "<<", ">>", "&&", "||"];
const RELATIONS: [&str; 7] = ["=", "==", "!=", "<", ">", "<=", ">="];
/// What may stand before a whole arithmetic expression, beside a relation.
const BEFORE: [&str; 7] = ["(", "and", "or", "not", "&&", "||", "!"];
const BEHIND: [&str; 5] = [")", "and", "or", "&&", "||"];

/// One access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accessor<'a> {
    /// The word before the bracket.
    pub(super) protocol: &'a str,
    /// First byte and number of bytes, absent if the offset is computed.
    pub(super) bytes: Option<(u32, u32)>,
    /// The value is only asked for SYN, RST or both.
    pub(super) is_fixed_flag: bool,
}

/// Every access in `expression`, nested ones too.
pub(super) fn find(expression: &str) -> Vec<Accessor<'_>> {
    let tokens = tokens(expression);
    let opening = (0..tokens.len()).filter(|at| tokens[*at] == "[");
    opening.map(|at| accessor(&tokens, at)).collect()
}

fn accessor<'a>(tokens: &[&'a str], opening: usize) -> Accessor<'a> {
    let protocol = opening.checked_sub(1).map_or("", |at| tokens[at]);
    let closing = closing(tokens, opening);
    let before = opening.checked_sub(2).map(|at| tokens[at]);
    Accessor {
        protocol,
        bytes: bytes(&tokens[opening + 1..closing]),
        is_fixed_flag: begins_whole(before)
            && tests_fixed_flag(tokens.get(closing + 1..).unwrap_or_default()),
    }
}

fn closing(tokens: &[&str], opening: usize) -> usize {
    let mut depth = 0;
    let is_last = |token: &&str| {
        depth += i32::from(*token == "[") - i32::from(*token == "]");
        depth == 0
    };
    tokens[opening..].iter().position(is_last).map_or(tokens.len(), |length| opening + length)
}

fn bytes(inside: &[&str]) -> Option<(u32, u32)> {
    match *inside {
        [offset] => Some((constant(offset, &OFFSETS)?, 1)),
        [offset, ":", size] => Some((constant(offset, &OFFSETS)?, number(size)?)),
        _ => None,
    }
}

/// Nothing that binds before `&` stands on the left.
fn begins_whole(before: Option<&str>) -> bool {
    before.is_none_or(|token| BEFORE.contains(&token) || RELATIONS.contains(&token))
}

/// `& MASK` within the fixed flags, and nothing behind it that binds before `&`.
fn tests_fixed_flag(behind: &[&str]) -> bool {
    let Some((mask, rest)) = behind.strip_prefix(&["&"]).and_then(mask) else { return false };
    let ends_whole = rest.first().is_none_or(|token| BEHIND.contains(token) || RELATIONS.contains(token));
    let fixed = FIXED_FLAGS.iter().fold(0, |all, (_, flag)| all | flag);
    ends_whole && mask & !fixed == 0
}

/// A constant, or several joined by `|` in parentheses, and what follows.
fn mask<'t, 'a>(tokens: &'t [&'a str]) -> Option<(u32, &'t [&'a str])> {
    match tokens {
        ["(", inside @ ..] => {
            let (mut all, mut rest) = mask(inside)?;
            while let Some(more) = rest.strip_prefix(&["|"]) {
                let (next, behind) = mask(more)?;
                (all, rest) = (all | next, behind);
            }
            Some((all, rest.strip_prefix(&[")"])?))
        }
        [word, rest @ ..] => Some((constant(word, &FIXED_FLAGS)?, rest)),
        [] => None,
    }
}

fn constant(word: &str, names: &[(&str, u32)]) -> Option<u32> {
    let named = names.iter().find(|(name, _)| *name == word);
    named.map(|(_, value)| *value).or_else(|| number(word))
}

/// Decimal, hexadecimal with `0x`, octal with a leading zero.
fn number(word: &str) -> Option<u32> {
    let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    match (hexadecimal, word.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => word.parse().ok(),
    }
}

/// Words and operators, as libpcap tells them apart: a hyphen inside a word belongs to it, and a backslash takes what
/// follows for a name.
fn tokens(mut text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    loop {
        text = text.trim_start();
        let Some(first) = text.chars().next() else { return tokens };
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_in_name = |c: char| !" !()\n\t".contains(c);
        let length = match first {
            '\\' => text.find(|c| !is_in_name(c)).unwrap_or(text.len()),
            _ if first.is_ascii_alphanumeric() => text.find(|c| !is_in_word(c)).unwrap_or(text.len()),
            _ if OPERATORS.iter().any(|operator| text.starts_with(operator)) => 2,
            _ => first.len_utf8(),
        };
        let (token, rest) = text.split_at(length);
        tokens.push(token);
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(expression: &str) -> Accessor<'_> {
        let found = find(expression);
        assert_eq!(found.len(), 1, "{expression}: {found:?}");
        found[0]
    }

    #[test]
    fn offsets_and_sizes_are_read_however_they_are_written() {
        let cases = [
            ("ip[8] = 1", "ip", Some((8, 1))),
            ("ip [ 0x0c : 4 ] = 1", "ip", Some((12, 4))),
            ("not(ip6[010:2]=1)", "ip6", Some((8, 2))),
            ("tcp\t[tcpflags]\n= 2", "tcp", Some((13, 1))),
            ("icmp6[icmp6code]=0", "icmp6", Some((1, 1))),
            ("udp[4+4] = 1", "udp", None),
            ("udp[(8)] = 1", "udp", None),
            ("1 = ether[99999999999]", "ether", None),
        ];
        for (expression, protocol, bytes) in cases {
            let found = only(expression);
            assert_eq!((found.protocol, found.bytes), (protocol, bytes), "{expression}");
        }
    }

    #[test]
    fn nested_accesses_are_all_found() {
        let found = find("udp[ip[0] & 15 : 2] = 3 and tcp[0:2] = 1");
        let found: Vec<_> = found.iter().map(|a| (a.protocol, a.bytes)).collect();
        assert_eq!(found, [("udp", None), ("ip", Some((0, 1))), ("tcp", Some((0, 2)))]);
    }

    #[test]
    fn a_mask_counts_only_where_nothing_binds_before_it() {
        let fixed = [
            "tcp[13] & 2 != 0",
            "tcp[13]&0x6=2",
            "tcp[13] & (tcp-syn|tcp-rst) != 0",
            "not (tcp[13] & ((tcp-syn) | 4) = 0)",
            "0 != tcp[tcpflags] & tcp-rst",
            "port 80 and tcp[13] & 2 = 2 and port 81",
        ];
        for expression in fixed {
            assert!(only(expression).is_fixed_flag, "{expression}");
        }
        let others = [
            "tcp[13] = 2",
            "tcp[13] & 18 = 2",
            "tcp[13] & (tcp-syn|tcp-fin) != 0",
            "tcp[13] & 2 << 3 != 0",
            "tcp[13] & 2 * 8 != 0",
            "1 + tcp[13] & 2 != 0",
            "- tcp[13] & 2 != 0",
            "tcp[13] | 2 != 0",
            "tcp[13] && 2 != 0",
        ];
        for expression in others {
            assert!(!only(expression).is_fixed_flag, "{expression}");
        }
    }

    #[test]
    fn escaped_names_and_odd_text_are_no_accesses() {
        for expression in ["host \\ip[8]", "", "ä € ip", "ip proto \\tcp"] {
            assert_eq!(find(expression), [], "{expression}");
        }
        for odd in ["[", "ip[", "]", "ip[1", "ip[[[", "\\"] {
            let _ = find(odd);
        }
    }
}
