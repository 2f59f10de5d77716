//! Every field by its bytes: which may be asked for, and which are refused by name.

use super::Filter;

fn refusal(expression: &str) -> String {
    Filter::compile(expression).err().unwrap_or_else(|| panic!("{expression}: accepted")).to_string()
}

#[test]
fn terms_that_can_differ_from_hop_to_hop_are_refused_by_name() {
    let refused = [
        ("less 100", "packet length"),
        ("tcp and greater 1000", "packet length"),
        ("host 10.0.0.1 and len > 5", "packet length"),
        ("inbound", "interface or direction"),
        ("tcp and outbound", "interface or direction"),
        ("ip[0] & 0xf > 5", "length of the IPv4 header"),
        ("ip[1] = 0", "TOS"),
        ("ip[0:2] = 0x4500", "length of the IPv4 header"),
        ("ip[2:2] > 100", "total length"),
        ("ip[4:2] = 7", "IP-ID"),
        ("ip[6:2] & 0x1fff = 0", "fragment field"),
        ("ip[8] < 5", "TTL"),
        ("ip[8:4] < 5", "TTL"),
        ("ip [ 0x8 ]<5", "TTL"),
        ("ip[010] < 5", "TTL"),
        ("udp port 53 and ip[8] == 64", "TTL"),
        ("ip[8:2] = 1", "TTL"),
        ("ip[9:2] = 1", "IPv4 header checksum"),
        ("ip[10:2] = 1", "IPv4 header checksum"),
        ("ip[11] = 1", "IPv4 header checksum"),
        ("ip[11:2] = 1", "IPv4 header checksum"),
        ("ip[18:4] = 1", "behind the IPv4 addresses"),
        ("ip[20] = 1", "behind the IPv4 addresses"),
        ("ip6[0:4] = 0x60000000", "traffic class"),
        ("ip6[4:2] > 100", "payload length"),
        ("ip6[5:2] > 100", "payload length"),
        ("ip6[6:2] = 3", "hop limit"),
        ("ip6[7] = 3", "hop limit"),
        ("ip6[7:4] = 3", "hop limit"),
        ("ip6[38:4] = 3", "behind the IPv6 header"),
        ("ip6[53] & 8 != 0", "behind the IPv6 header"),
        ("tcp[2:4] = 1", "TCP sequence number"),
        ("tcp[4:4] = 1", "TCP sequence number"),
        ("tcp[8:4] = 1", "TCP acknowledgment number"),
        ("tcp[12] & 0xf0 > 0x50", "length of the TCP header"),
        ("tcp[12:2] & 2 != 0", "length of the TCP header"),
        ("tcp[13] = 2", "TCP flags"),
        ("tcp[13] & 18 = 2", "TCP flags"),
        ("tcp[tcpflags] == tcp-syn", "TCP flags"),
        ("tcp[tcpflags] & tcp-push != 0", "TCP flags"),
        ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "TCP flags"),
        ("tcp[13] & 2 << 2 != 0", "TCP flags"),
        ("tcp[13] + 1 & 2 != 0", "TCP flags"),
        ("1 + tcp[13] & 2 != 0", "TCP flags"),
        ("tcp[13:2] & 2 != 0", "TCP flags"),
        ("tcp[14:2] = 0", "TCP window"),
        ("tcp[16:2] = 0", "TCP checksum"),
        ("tcp[18:2] = 0", "TCP urgent pointer"),
        ("tcp[20:4] = 0", "TCP options or payload"),
        ("udp[4:2] = 100", "UDP length"),
        ("udp[3:2] = 100", "UDP length"),
        ("udp[6:2] = 0", "UDP checksum"),
        ("udp[7:2] = 0", "UDP checksum"),
        ("icmp[2:2] = 0", "ICMP checksum"),
        ("icmp[4:2] = 7", "ICMP echo id"),
        ("icmp[4:4] = 7", "ICMP echo id"),
        ("icmp6[5] = 7", "ICMP echo id"),
        ("sctp[4:4] = 7", "SCTP verification tag"),
        ("sctp[12] = 1", "SCTP chunks"),
        ("ip[ip[0] & 15] = 1", "computed offset"),
        ("udp[4 + 4] = 1", "computed offset"),
        ("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "computed offset"),
        ("ether[8] < 5", "raw bytes of \"ether\""),
        ("link[0] = 0x45", "raw bytes of \"link\""),
        ("igmp[0] = 1", "raw bytes of \"igmp\""),
        ("host 10.0.0.1 or (ip[12:4] = 1 and not ip[8]=1)", "TTL"),
    ];
    for (expression, term) in refused {
        let message = refusal(expression);
        assert!(message.contains("hop to hop"), "{expression}: {message}");
        assert!(message.contains(term) && message.contains(expression), "{expression}: {message}");
    }
}

#[test]
fn fields_that_stay_are_accepted() {
    let accepted = [
        "host 10.1.0.2",
        "host fd00::1",
        "src host 10.1.0.2 and dst host 10.1.0.3",
        "net 10.1.0.0/16",
        "ip6 net fd00::/8",
        "net fd00:1:2:3::/64",
        "port 80",
        "tcp port 80 or udp port 53",
        "portrange 80-90",
        "ip6 and udp portrange 1000-2000",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp6",
        "ip",
        "ip6",
        "ip proto 47",
        "ip proto \\udp",
        "ip6 proto 17",
        "ip6 protochain 17",
        "not (host 10.1.0.2 and tcp port 22)",
        "(host 10.1.0.2 or host fd00::1) and (tcp port 80 or icmp or icmp6)",
        "ip broadcast or ip multicast",
        "ip[9] = 17",
        "ip[12:4] = 0x0a000001",
        "ip[14:2]=1",
        "ip[19] & 1 = 1",
        "ip6[6] = 58",
        "ip6[8:4] = 0xfd000000",
        "ip6[36:4] = 1",
        "ip6[39] = 1",
        "tcp[0:2] = 80",
        "tcp [ 0 : 4 ] = 80",
        "tcp[tcpflags] & tcp-syn != 0",
        "tcp[tcpflags] & (tcp-syn|tcp-rst) != 0",
        "port 80 and tcp[13]&0x06!=0",
        "udp[0:2] = 53",
        "udp[2:2] = 53",
        "udp[8:4] = 0x01020304",
        "udp[100] = 1",
        "icmp[icmptype] = icmp-echo",
        "icmp[0] = 8 and icmp[icmpcode] = 0",
        "icmp[6:2] = 1",
        "icmp[8:4] = 1",
        "icmp6[icmp6type] = 128",
        "sctp[0:2] = 80",
    ];
    for expression in accepted {
        let error = Filter::compile(expression).err();
        assert!(error.is_none(), "{expression}: {error:?}");
    }
}
