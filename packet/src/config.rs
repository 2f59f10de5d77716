//! Which UDP destination ports carry tunnels.

use crate::observation::OverlayKind;

/// Most ports that can be configured.
const MAX_PORTS: usize = 32;

/// A UDP destination port that carries a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPort {
    /// UDP destination port.
    pub port: u16,
    /// One of `Vxlan`, `VxlanGpe`, `Geneve`, `Mpls`, `WireGuard` and `Esp`; others are carried by no UDP port.
    pub kind: OverlayKind,
}

/// The tunnel ports a decoder knows. The destination port decides, as it does in the kernel's socket lookup.
#[derive(Clone, Debug)]
pub struct DecodeConfig {
    ports: [TunnelPort; MAX_PORTS],
    count: usize,
    /// One bit per value of the port's low six bits: most packets are told apart without walking the list.
    filter: u64,
}

impl Default for DecodeConfig {
    /// The registered ports and the two that Linux and Kubernetes use beside them: VXLAN 4789 and 8472, VXLAN-GPE
    /// 4790, Geneve 6081, `WireGuard` 51820, MPLS in UDP 6635 (RFC 7510), ESP in UDP 4500 (RFC 3948).
    fn default() -> Self {
        let mut config = Self::without_ports();
        for (port, kind) in [
            (8472, OverlayKind::Vxlan),
            (4789, OverlayKind::Vxlan),
            (6081, OverlayKind::Geneve),
            (51820, OverlayKind::WireGuard),
            (4790, OverlayKind::VxlanGpe),
            (6635, OverlayKind::Mpls),
            (4500, OverlayKind::Esp),
        ] {
            config.set(TunnelPort { port, kind });
        }
        config
    }
}

impl DecodeConfig {
    /// A configuration that knows no tunnel port.
    pub const fn without_ports() -> Self {
        Self { ports: [TunnelPort { port: 0, kind: OverlayKind::None }; MAX_PORTS], count: 0, filter: 0 }
    }

    /// Adds a port, or changes what a known port carries. `OverlayKind::None` makes the port plain UDP again.
    /// Returns false, and changes nothing, when the table of 32 ports is full.
    pub fn set(&mut self, tunnel: TunnelPort) -> bool {
        if let Some(known) = self.ports[..self.count].iter_mut().find(|known| known.port == tunnel.port) {
            known.kind = tunnel.kind;
            return true;
        }
        if self.count == MAX_PORTS {
            return false;
        }
        self.ports[self.count] = tunnel;
        self.count += 1;
        self.filter |= 1 << (tunnel.port & 63);
        true
    }

    /// The configured ports.
    pub fn ports(&self) -> &[TunnelPort] {
        &self.ports[..self.count]
    }

    /// What a datagram to `port` carries, `OverlayKind::None` if it is no tunnel's.
    #[inline]
    pub fn kind(&self, port: u16) -> OverlayKind {
        if self.filter & (1 << (port & 63)) == 0 {
            return OverlayKind::None;
        }
        self.ports().iter().find(|tunnel| tunnel.port == port).map_or(OverlayKind::None, |tunnel| tunnel.kind)
    }
}
