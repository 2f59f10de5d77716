use super::*;

fn shown(show: fn(&Extension<'_>) -> Shown, name: &str, revision: u32, info: &[u8], is_v6: bool) -> String {
    match show(&Extension { name, revision, info, is_v6 }) {
        Shown::Words(words) => words,
        Shown::Comment(comment) => format!("/* {comment} */"),
    }
}

fn shorts(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn longs(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

#[test]
fn matches_are_shown_as_they_are_written() {
    let of = |name, revision, info: &[u8]| shown(matching, name, revision, info, false);
    let tcp = [shorts(&[0, u16::MAX, 80, 80]), vec![0, 0b10111, 0b10, 0b100]].concat();
    assert_eq!(of("tcp", 0, &tcp), "-m tcp --dport 80 ! --tcp-flags FIN,SYN,RST,ACK SYN");
    let udp = [shorts(&[1, 1_023, 0, u16::MAX]), vec![1]].concat();
    assert_eq!(of("udp", 0, &udp), "-m udp ! --sport 1:1023");
    assert_eq!(
        of("mark", 1, &[longs(&[0x4000, 0x4000]), vec![0; 4]].concat()),
        "-m mark --mark 0x4000/0x4000"
    );
    let mut connection = [0; 160];
    connection[146..152].copy_from_slice(&shorts(&[1, 0, 6]));
    assert_eq!(of("conntrack", 3, &connection), "-m conntrack --ctstate ESTABLISHED,RELATED");
    connection[146] = 3;
    assert_eq!(of("conntrack", 3, &connection), "-m conntrack [options not shown]");
    let half = [shorts(&[0, 0]), longs(&[1 << 30, 0, 0])].concat();
    assert_eq!(of("statistic", 0, &half), "-m statistic --mode random --probability 0.50000");
    let local = [shorts(&[0, 4]), longs(&[2])].concat();
    assert_eq!(of("addrtype", 1, &local), "-m addrtype ! --dst-type LOCAL");
    let mut ports = [vec![1, 3], shorts(&[22, 80, 90])].concat();
    ports.resize(49, 0);
    ports[2 + 30 + 1] = 1;
    assert_eq!(of("multiport", 1, &ports), "-m multiport --dports 22,80:90");
    assert_eq!(of("comment", 0, b"who did it\0\0"), "/* who did it */");
    assert_eq!(of("set", 4, &[1; 8]), "-m set [options not shown]");
}

#[test]
fn targets_are_shown_as_they_are_written() {
    let of = |name, revision, info: &[u8]| shown(target, name, revision, info, false);
    let range = [longs(&[1, 3]), vec![10, 0, 0, 1, 10, 0, 0, 1], vec![0, 80, 0, 80]].concat();
    assert_eq!(of("DNAT", 0, &range), "-j DNAT --to-destination 10.0.0.1:80");
    let mut wide = [longs(&[1]), vec![10, 0, 0, 1]].concat();
    wide.resize(20, 0);
    wide.extend([10, 0, 0, 9]);
    wide.resize(40, 0);
    assert_eq!(of("SNAT", 1, &wide), "-j SNAT --to-source 10.0.0.1-10.0.0.9");
    wide[0] = 64;
    assert_eq!(of("SNAT", 1, &wide), "-j SNAT [options not shown]");
    assert_eq!(of("MASQUERADE", 0, &[longs(&[1, 0]), vec![0; 12]].concat()), "-j MASQUERADE");
    let ports = [longs(&[1, 6]), vec![0; 8], vec![4, 0, 4, 255]].concat();
    assert_eq!(of("MASQUERADE", 0, &ports), "-j MASQUERADE --to-ports 1024-1279 --random");
    assert_eq!(of("MARK", 2, &longs(&[0x4000, 0x4000])), "-j MARK --set-xmark 0x4000/0x4000");
    assert_eq!(of("REJECT", 0, &longs(&[3])), "-j REJECT --reject-with icmp-port-unreachable");
    assert_eq!(of("TCPMSS", 0, &shorts(&[u16::MAX])), "-j TCPMSS --clamp-mss-to-pmtu");
    assert_eq!(of("NFLOG", 0, &[0; 8]), "-j NFLOG");
    assert_eq!(of("NFLOG", 0, &[1; 8]), "-j NFLOG [options not shown]");
    let six = [longs(&[3]), vec![0xfd; 16], vec![0xfd; 16], vec![0, 80, 0, 81]].concat();
    let expected = "-j DNAT --to-destination [fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:80-81";
    assert_eq!(shown(target, "DNAT", 2, &six, true), expected);
}

#[test]
fn structures_of_any_length_are_never_a_panic() {
    let names = [
        ("tcp", 0),
        ("udp", 0),
        ("mark", 1),
        ("state", 0),
        ("conntrack", 3),
        ("statistic", 0),
        ("addrtype", 1),
        ("multiport", 1),
        ("comment", 0),
        ("MARK", 2),
        ("CONNMARK", 1),
        ("DNAT", 0),
        ("DNAT", 1),
        ("SNAT", 2),
        ("MASQUERADE", 0),
        ("REDIRECT", 0),
        ("REJECT", 0),
        ("TCPMSS", 0),
    ];
    for (name, revision) in names {
        for length in 0..200 {
            for byte in [0, 1, 0x7f, 0xff] {
                for is_v6 in [false, true] {
                    shown(matching, name, revision, &vec![byte; length], is_v6);
                    shown(target, name, revision, &vec![byte; length], is_v6);
                }
            }
        }
    }
}
