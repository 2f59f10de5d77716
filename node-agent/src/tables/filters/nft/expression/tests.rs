use super::super::rule::Rule;
use super::*;
use crate::netlink::attributes::each;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes with numbers, in network byte order.
fn numbers(numbers: &[(u16, u32)]) -> Vec<u8> {
    numbers.iter().flat_map(|(kind, number)| attribute(*kind, &number.to_be_bytes())).collect()
}

fn data(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind, &attribute(1, value))
}

fn payload(base: u32, offset: u32, bytes: u32) -> (&'static str, Vec<u8>) {
    ("payload", numbers(&[(1, 1), (2, base), (3, offset), (4, bytes)]))
}

fn meta(key: u32) -> (&'static str, Vec<u8>) {
    ("meta", numbers(&[(1, 1), (2, key)]))
}

fn compare(how: u32, value: &[u8]) -> (&'static str, Vec<u8>) {
    ("cmp", [numbers(&[(1, 1), (2, how)]), data(3, value)].concat())
}

fn mask(mask: &[u8]) -> (&'static str, Vec<u8>) {
    let zeroes = vec![0; mask.len()];
    let length = mask.len() as u32;
    ("bitwise", [numbers(&[(1, 1), (2, 1), (3, length)]), data(4, mask), data(5, &zeroes)].concat())
}

fn constant_in(register: u32, value: &[u8]) -> (&'static str, Vec<u8>) {
    ("immediate", [numbers(&[(1, register)]), data(2, value)].concat())
}

fn verdict(code: i32, chain: &str) -> (&'static str, Vec<u8>) {
    let chain = if chain.is_empty() { Vec::new() } else { attribute(2, chain.as_bytes()) };
    let verdict = attribute(2, &[attribute(1, &code.to_be_bytes()), chain].concat());
    ("immediate", [numbers(&[(1, 0)]), attribute(2, &verdict)].concat())
}

fn named(kind: u16, name: &str) -> Vec<u8> {
    attribute(kind, &[name.as_bytes(), &[0]].concat())
}

/// A rule of chain `c` in table `t`, as it comes.
fn message(expressions: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let list: Vec<u8> = expressions
        .iter()
        .flat_map(|(name, data)| attribute(1, &[named(1, name), attribute(2, data)].concat()))
        .collect();
    [named(1, "t"), named(2, "c"), attribute(3, &7_u64.to_be_bytes()), attribute(4, &list)].concat()
}

fn sets() -> Sets {
    let mut sets = Sets::default();
    for (name, key, value) in [("one", 4, 0), ("two", 8, 0), ("map", 4, 8)] {
        sets.add(2, &[named(1, "t"), named(2, name), numbers(&[(5, key), (7, value)])].concat());
    }
    sets
}

fn shown(family: u8, expressions: &[(&str, Vec<u8>)]) -> String {
    let rule = Rule::read(family, &message(expressions), &sets()).unwrap();
    [rule.text, rule.action].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
}

const IP: u8 = 2;
const INET: u8 = 1;

#[test]
fn what_a_rule_looks_at_has_the_words_of_nft() {
    let state = ("ct", numbers(&[(1, 1), (2, 0)]));
    for (family, expressions, expected) in [
        (IP, vec![payload(1, 12, 4), compare(0, &[10, 0, 0, 1]), verdict(0, "")], "ip saddr 10.0.0.1 drop"),
        (IP, vec![payload(1, 16, 1), compare(1, &[10]), verdict(1, "")], "ip daddr != 10.0.0.0/8 accept"),
        (
            IP,
            vec![payload(1, 12, 4), mask(&[255, 255, 254, 0]), compare(0, &[10, 0, 2, 0]), verdict(-5, "")],
            "ip saddr 10.0.2.0/23 return",
        ),
        (
            INET,
            vec![payload(1, 12, 4), compare(0, &[10, 0, 0, 1]), verdict(0, "")],
            "@nh,96,32 0x0a000001 drop",
        ),
        (
            INET,
            vec![meta(15), compare(0, &[2]), payload(1, 12, 4), compare(0, &[10, 0, 0, 1])],
            "meta nfproto ipv4 ip saddr 10.0.0.1",
        ),
        (
            INET,
            vec![meta(15), compare(1, &[2]), payload(1, 12, 4), compare(0, &[10, 0, 0, 1])],
            "meta nfproto != ipv4 @nh,96,32 0x0a000001",
        ),
        (
            INET,
            vec![meta(16), compare(0, &[6]), payload(2, 2, 2), compare(5, &[0, 80]), verdict(-3, "web")],
            "meta l4proto tcp th dport >= 80 jump web",
        ),
        (INET, vec![meta(6), compare(0, b"cali"), verdict(-4, "pods")], "iifname cali* goto pods"),
        (
            INET,
            vec![state, mask(&6_u32.to_ne_bytes()), compare(1, &[0; 4]), verdict(1, "")],
            "ct state established,related accept",
        ),
        (
            INET,
            vec![meta(3), mask(&0x4000_u32.to_ne_bytes()), compare(0, &0x4000_u32.to_ne_bytes())],
            "meta mark & 0x4000 == 0x4000",
        ),
        (
            IP,
            vec![
                payload(2, 2, 2),
                ("range", [numbers(&[(1, 1), (2, 0)]), data(3, &[0, 1]), data(4, &[3, 255])].concat()),
                verdict(0, ""),
            ],
            "th dport 1-1023 drop",
        ),
        (
            INET,
            vec![("fib", numbers(&[(1, 1), (2, 3), (3, 2)])), compare(0, &2_u32.to_ne_bytes())],
            "fib daddr type local",
        ),
    ] {
        assert_eq!(shown(family, &expressions), expected);
    }
}

#[test]
fn sets_are_named_with_their_keys() {
    let lookup = |set: &str, register: u32, more: &[(u16, u32)]| {
        ("lookup", [named(1, set), numbers(&[(2, register)]), numbers(more)].concat())
    };
    let port = ("payload", numbers(&[(1, 9), (2, 2), (3, 2), (4, 2)]));
    assert_eq!(shown(IP, &[payload(1, 12, 4), lookup("one", 1, &[])]), "ip saddr @one");
    assert_eq!(shown(IP, &[payload(1, 12, 4), lookup("one", 1, &[(5, 1)])]), "ip saddr != @one");
    let both = [payload(1, 16, 4), port, lookup("two", 1, &[(3, 0)])];
    assert_eq!(shown(IP, &both), "ip daddr . th dport vmap @two");
    assert_eq!(shown(IP, &[payload(1, 12, 4), lookup("two", 1, &[])]), "[lookup not shown]");
    assert_eq!(shown(IP, &[payload(1, 12, 4), lookup("other", 1, &[])]), "[lookup not shown]");
    let nat = ("nat", numbers(&[(1, 1), (2, 2), (3, 1), (5, 9)]));
    let translated = [payload(1, 16, 4), lookup("map", 1, &[(3, 1)]), nat];
    assert_eq!(shown(IP, &translated), "dnat to ip daddr map @map");
    let update = ("dynset", [named(1, "one"), numbers(&[(3, 1), (4, 1)])].concat());
    assert_eq!(shown(IP, &[payload(1, 12, 4), update]), "update @one { ip saddr }");
}

#[test]
fn translations_and_refusals_say_whereto_and_how() {
    let (address, port) = (constant_in(1, &[10, 0, 0, 9]), constant_in(2, &[0x1f, 0x90]));
    let dnat = ("nat", numbers(&[(1, 1), (2, 2), (3, 1), (5, 2)]));
    assert_eq!(shown(IP, &[address.clone(), port, dnat]), "dnat to 10.0.0.9:8080");
    let range = [
        address,
        constant_in(2, &[10, 0, 0, 19]),
        ("nat", numbers(&[(1, 0), (2, 2), (3, 1), (4, 2), (7, 4)])),
    ];
    assert_eq!(shown(IP, &range), "snat to 10.0.0.9-10.0.0.19 random");
    assert_eq!(shown(IP, &[("masq", numbers(&[(1, 16)]))]), "masquerade fully-random");
    let redirect = [constant_in(1, &[0, 53]), ("redir", numbers(&[(1, 1), (2, 1)]))];
    assert_eq!(shown(IP, &redirect), "redirect to :53");
    assert_eq!(shown(IP, &[("reject", numbers(&[(1, 1)]))]), "reject with tcp reset");
    let limit =
        [attribute(1, &10_u64.to_be_bytes()), attribute(2, &60_u64.to_be_bytes()), numbers(&[(3, 5)])];
    assert_eq!(shown(IP, &[("limit", limit.concat())]), "limit rate 10/minute burst 5");
    let mark = [constant_in(1, &0x4000_u32.to_ne_bytes()), ("meta", numbers(&[(2, 3), (3, 1)]))];
    assert_eq!(shown(IP, &mark), "meta mark set 0x4000");
    assert_eq!(shown(IP, &[("log", named(2, "gone: "))]), "log prefix \"gone: \"");
    let known = [("match", [named(1, "comment"), numbers(&[(2, 0)]), attribute(3, b"why\0")].concat())];
    let rule = Rule::read(IP, &message(&known), &Sets::default()).unwrap();
    assert_eq!((rule.text.as_str(), rule.comment.as_str()), ("", "why"));
}

#[test]
fn what_is_not_known_is_named_and_what_it_loads_is_not_guessed() {
    let unknown = ("hash", numbers(&[(1, 2), (2, 1), (3, 4), (4, 3)]));
    let expressions = [payload(1, 12, 4), unknown, compare(0, &[10, 0, 0, 1]), verdict(0, "")];
    assert_eq!(shown(IP, &expressions), "[hash not shown] [cmp not shown] drop");
    let counted =
        ("counter", [attribute(1, &420_u64.to_be_bytes()), attribute(2, &7_u64.to_be_bytes())].concat());
    let rule = Rule::read(IP, &message(&[counted]), &Sets::default()).unwrap();
    assert_eq!((rule.handle, rule.counters), (Some(7), Some(Counters { packets: 7, bytes: 420 })));
}

#[test]
fn damaged_rules_are_never_a_panic() {
    let expressions = [
        payload(1, 12, 4),
        mask(&[255, 255, 254, 0]),
        compare(0, &[10, 0, 2, 0]),
        ("lookup", [named(1, "two"), numbers(&[(2, 1), (3, 2)])].concat()),
        ("nat", numbers(&[(1, 1), (2, 10), (3, 1), (4, 2), (5, 2), (6, 3), (7, 255)])),
        ("target", [named(1, "DNAT"), numbers(&[(2, 2)]), attribute(3, &[1; 44])].concat()),
        verdict(-3, "web"),
    ];
    let (whole, sets) = (message(&expressions), sets());
    for length in 0..whole.len() {
        let _ = Rule::read(IP, &whole[..length], &sets);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 2, 8, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            for family in [IP, INET, 10, 255] {
                let _ = Rule::read(family, &damaged, &sets);
                let _ = super::super::chain::Chain::read(family, &damaged);
            }
        }
    }
    assert_eq!(each(&whole).count(), 4);
}
