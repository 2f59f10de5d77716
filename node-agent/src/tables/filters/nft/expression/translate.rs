//! Expressions that give packets other addresses and ports.

use super::super::value::Form;
use super::{Reader, V4, V6, number};

/// `NF_NAT_RANGE_*`, `linux/netfilter/nf_nat.h`, as far as nft(8) has words for them.
const FLAGS: [(u32, &str); 3] = [(4, " random"), (8, " persistent"), (16, " fully-random")];

impl Reader<'_> {
    /// `enum nft_nat_attributes`.
    pub(super) fn nat(&mut self, data: &[u8]) -> Option<()> {
        let kind = *["snat", "dnat"].get(number(data, 1)? as usize)?;
        let (form, is_v6) = match number(data, 2)? {
            2 => (Form::V4, false),
            10 => (Form::V6, true),
            _ => return None,
        };
        let addresses = self.between(data, [3, 4], form)?;
        let ports = self.between(data, [5, 6], Form::Number)?;
        let to = match (addresses, ports) {
            (None, None) => String::new(),
            (Some(addresses), None) => format!(" to {addresses}"),
            (None, Some(ports)) => format!(" to :{ports}"),
            (Some(addresses), Some(ports)) if is_v6 => format!(" to [{addresses}]:{ports}"),
            (Some(addresses), Some(ports)) => format!(" to {addresses}:{ports}"),
        };
        self.act(format!("{kind}{to}{}", flags(number(data, 7))));
        Some(())
    }

    /// Masquerading and redirection, whose addresses are those of the node. `ports`: attributes of the lowest and the
    /// highest; the flags are in the one that is left of the first three.
    pub(super) fn ports_only(&mut self, word: &str, data: &[u8], ports: [u16; 2]) -> Option<()> {
        let of_flags = 6 - ports.iter().sum::<u16>();
        let to = self
            .between(data, ports, Form::Number)?
            .map_or_else(String::new, |ports| format!(" to :{ports}"));
        self.act(format!("{word}{to}{}", flags(number(data, of_flags))));
        Some(())
    }

    /// `enum nft_tproxy_attributes`.
    pub(super) fn proxy(&mut self, data: &[u8]) -> Option<()> {
        let form = match number(data, 1).unwrap_or_default() as u8 {
            V4 => Form::V4,
            V6 => Form::V6,
            _ => Form::Raw,
        };
        let of = |kind, form| number(data, kind).map(|register| self.registers.show(register, form));
        let address = of(2, form).map_or(Some(String::new()), |shown| shown)?;
        let port =
            of(3, Form::Number).map_or(Some(String::new()), |shown| shown.map(|port| format!(":{port}")))?;
        self.act(format!("tproxy to {address}{port}"));
        Some(())
    }

    /// What is in the registers of the lowest and the highest value. Outer: it is not known; inner: nothing is set.
    #[allow(clippy::option_option, reason = "both absences mean something else")]
    fn between(&self, data: &[u8], kinds: [u16; 2], form: Form) -> Option<Option<String>> {
        let Some(lowest) = number(data, kinds[0]) else { return Some(None) };
        if self.registers.is_rest(lowest) {
            return Some(None);
        }
        let shown = self.registers.show(lowest, form)?;
        Some(Some(match number(data, kinds[1]).filter(|highest| *highest != lowest) {
            Some(highest) => format!("{shown}-{}", self.registers.show(highest, form)?),
            None => shown,
        }))
    }
}

fn flags(bits: Option<u32>) -> String {
    let bits = bits.unwrap_or_default();
    FLAGS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect()
}
