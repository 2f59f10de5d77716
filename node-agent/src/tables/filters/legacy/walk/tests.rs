use super::*;

/// An entry of IPv4: what it looks at by offset, its matches, its target.
struct Made {
    bytes: Vec<u8>,
}

impl Made {
    fn new() -> Self {
        Self { bytes: vec![0; 112] }
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn counted(self, packets: u64, bytes: u64) -> Self {
        self.with(96, &[packets.to_ne_bytes(), bytes.to_ne_bytes()].concat())
    }

    fn extension(name: &str, info: &[u8]) -> Vec<u8> {
        let mut bytes = ((32 + info.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.resize(32, 0);
        bytes.extend(info);
        bytes
    }

    fn matching(mut self, name: &str, info: &[u8]) -> Self {
        self.bytes.extend(Self::extension(name, info));
        self
    }

    fn target(mut self, name: &str, info: &[u8]) -> Vec<u8> {
        let target = self.bytes.len() as u16;
        self.bytes.extend(Self::extension(name, info));
        let next = self.bytes.len() as u16;
        self.with(88, &[target.to_ne_bytes(), next.to_ne_bytes()].concat()).bytes
    }

    fn verdict(self, verdict: i32) -> Vec<u8> {
        self.target("", &[verdict.to_ne_bytes(), [0; 4]].concat())
    }

    fn mark(name: &str) -> Vec<u8> {
        let mut info = name.as_bytes().to_vec();
        info.resize(32, 0);
        Self::new().target(CHAIN_MARK, &info)
    }
}

/// `filter` with two rules in INPUT, one of which leads to a chain of its own.
fn table() -> (Info, Vec<u8>) {
    let own = Made::mark("KUBE");
    let drop = Made::new()
        .with(0, &[10, 0, 0, 0])
        .with(8, &[255, 0, 0, 0])
        .with(16, b"eth0\0")
        .with(48, &[0xff; 5])
        .with(80, &6_u16.to_ne_bytes())
        .counted(7, 420)
        .matching("comment", b"who did it\0\0\0\0\0\0")
        .matching("tcp", &[[0, 0, 255, 255], [80, 0, 80, 0], [0; 4]].concat())
        .verdict(-1);
    let back = Made::new().verdict(RETURN);
    let end = Made::mark("ERROR");
    // What is before the chain: the rule that leads to it, the other, the policy.
    let other = Made::new()
        .with(34, b"x")
        .with(32, b"ve")
        .with(64, &[0xff; 3])
        .with(83, &[NOT_OUT])
        .target("LOG", &[1; 8]);
    let policy = Made::new().counted(3, 180).verdict(-2);
    let jump_bytes = 112 + 40;
    let begin = jump_bytes + other.len() + policy.len() + own.len();
    let jump = Made::new().counted(1, 60).verdict(begin as i32);
    assert_eq!(jump.len(), jump_bytes);
    let policy_at = (jump.len() + other.len()) as u32;
    let bytes = [jump, other, policy, own, drop, back, end].concat();
    let info = Info {
        hooks: 1 << 1,
        begins: [0; HOOKS],
        policies: [0, policy_at, 0, 0, 0],
        entries: 7,
        bytes: bytes.len() as u32,
    };
    (info, bytes)
}

/// `IPT_INV_VIA_OUT`.
const NOT_OUT: u8 = 2;

fn lines(info: &Info, bytes: &[u8]) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    walk(Family::V4, info, bytes, &mut |line| lines.push(line))?;
    Some(lines)
}

#[test]
fn chains_have_their_policies_and_rules_in_order() {
    let (info, bytes) = table();
    let lines = lines(&info, &bytes).unwrap();
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let counters = line.counters.map(|counters| format!("{}/{}", counters.packets, counters.bytes));
            let Line { chain, hook, policy, number, text, action, comment, .. } = line;
            let number = number.map(|number| number.to_string()).unwrap_or_default();
            format!(
                "{chain} {hook} {policy} {number} {} {text} {action} {comment}",
                counters.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "INPUT input accept  3/180   ",
            "INPUT   1 1/60  -j KUBE ",
            "INPUT   2 0/0 ! -o vex+ -j LOG [options not shown] ",
            "KUBE       ",
            "KUBE   1 7/420 -s 10.0.0.0/8 -i eth0 -p tcp -m tcp --dport 80 -j DROP who did it",
        ]
    );
}

#[test]
fn damaged_tables_are_refused_and_never_a_panic() {
    let (info, whole) = table();
    for length in 1..whole.len() {
        let _ = lines(&info, &whole[..length]);
    }
    assert_eq!(lines(&info, &whole[..100]), None, "shorter than an entry");
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            for family in [Family::V4, Family::V6] {
                walk(family, &info, &damaged, &mut |_| {});
            }
        }
    }
    let wild = Info { hooks: u32::MAX, begins: [u32::MAX; HOOKS], policies: [u32::MAX; HOOKS], ..info };
    assert!(lines(&wild, &whole).is_some());
    assert_eq!(lines(&info, &[]).map(|lines| lines.len()), Some(0));
}
