//! Words for numbers of `lastseen.v1`.

use lastseen_proto::v1;

macro_rules! words {
    ($($(#[$doc:meta])* $function:ident: $kind:ty),+ $(,)?) => {
        $($(#[$doc])*
        pub fn $function(value: i32) -> String {
            match <$kind>::try_from(value) {
                Ok(known) if value != 0 => known.as_str_name().to_ascii_lowercase().replace('_', "-"),
                Ok(_) => String::new(),
                Err(_) => format!("unknown({value})"),
            }
        })+
    };
}

words! {
    /// State of a capture or of a node's part in it; empty if unspecified.
    capture_state: v1::CaptureState,
    /// State of a node; empty if unspecified.
    node_state: v1::NodeState,
    /// Kind of an interface; empty if unspecified.
    interface_kind: v1::InterfaceKind,
    /// Direction through an interface; empty if unspecified.
    direction: v1::Direction,
    /// What became of what is on record; empty if unspecified.
    audit_outcome: v1::audit_record::Outcome,
    /// Kind of a tunnel; empty if unspecified.
    overlay_kind: v1::OverlayKind,
}

/// State of a probe or of a source's part in it; empty if unspecified.
pub fn probe_state(value: i32) -> String {
    match v1::ProbeState::try_from(value) {
        Ok(v1::ProbeState::Unspecified) => String::new(),
        Ok(state) => state.as_str_name().trim_start_matches("PROBE_").to_ascii_lowercase(),
        Err(_) => format!("unknown({value})"),
    }
}

/// The id of a probe.
pub fn of_probe(probe: Option<&v1::Probe>) -> Vec<String> {
    probe.iter().map(|probe| probe.id.clone()).collect()
}

/// A tunnel with what its id is called: `vxlan vni 1`, `gre key 7`, `ip-in-ip`.
pub fn overlay(overlay: &v1::OverlayReport) -> String {
    use v1::OverlayKind as Kind;
    let kind = overlay_kind(overlay.kind);
    match Kind::try_from(overlay.kind) {
        Ok(Kind::Vxlan | Kind::VxlanGpe | Kind::Geneve) => format!("{kind} vni {}", overlay.id),
        Ok(Kind::Gre) if overlay.id != 0 => format!("{kind} key {}", overlay.id),
        Ok(Kind::Mpls) => format!("{kind} label {}", overlay.id),
        Ok(Kind::Esp | Kind::Ah) => format!("{kind} spi 0x{:08x}", overlay.id),
        _ => kind,
    }
}

/// `node interface`.
pub fn point(point: &v1::PointName) -> String {
    format!("{} {}", point.node, point.interface)
}

/// Name of an IANA protocol number.
pub fn protocol(number: u32) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// TCP flags in the order of the header, a dot for each that is not set: `...A..S.`.
pub fn tcp_flags(flags: u32) -> String {
    "CEUAPRSF"
        .chars()
        .enumerate()
        .map(|(i, name)| if flags & (0x80 >> i) == 0 { '.' } else { name })
        .collect()
}

/// `10.0.0.1:80`, `[fd00::1]:80`; the address alone for port 0.
pub fn endpoint(address: &str, port: u32) -> String {
    match (port, address.contains(':')) {
        (0, _) => address.to_owned(),
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_with_hyphens() {
        assert_eq!(capture_state(v1::CaptureState::Completed as i32), "completed");
        assert_eq!(interface_kind(v1::InterfaceKind::PodVeth as i32), "pod-veth");
        assert_eq!((capture_state(0), capture_state(99)), (String::new(), "unknown(99)".to_owned()));
    }

    #[test]
    fn tunnels_say_what_their_id_is() {
        let report = |kind: v1::OverlayKind, id| overlay(&v1::OverlayReport { kind: kind as i32, id });
        assert_eq!(report(v1::OverlayKind::Vxlan, 1), "vxlan vni 1");
        assert_eq!(report(v1::OverlayKind::IpInIp, 0), "ip-in-ip");
        assert_eq!(report(v1::OverlayKind::Esp, 0xab), "esp spi 0x000000ab");
    }

    #[test]
    fn flags_and_endpoints() {
        assert_eq!(tcp_flags(0x12), "...A..S.");
        assert_eq!(endpoint("fd00::1", 80), "[fd00::1]:80");
        assert_eq!(endpoint("10.0.0.1", 0), "10.0.0.1");
    }
}
