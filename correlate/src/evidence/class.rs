//! The traffic class of a flow: DSCP and ECN, where all of its packets carry the same.

/// Which bits its packets agree in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// Bits that were set in all, and in any.
    range: Option<(u8, u8)>,
}

impl Class {
    /// Takes in the traffic class octet of one packet, RFC 2474 and RFC 3168.
    #[inline]
    pub(crate) fn add(&mut self, octet: u8) {
        let (all, any) = self.range.unwrap_or((octet, octet));
        self.range = Some((all & octet, any | octet));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        if let Some((all, any)) = other.range {
            self.add(all);
            self.add(any);
        }
    }

    /// The DSCP of all packets; absent where they differ.
    pub(crate) fn dscp(self) -> Option<u8> {
        self.agreed(0xfc).map(|octet| octet >> 2)
    }

    /// The ECN field of all packets; absent where they differ.
    pub(crate) fn ecn(self) -> Option<u8> {
        self.agreed(0x03)
    }

    fn agreed(self, mask: u8) -> Option<u8> {
        let (all, any) = self.range?;
        ((all ^ any) & mask == 0).then_some(any & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_that_of_all_packets_or_none() {
        let class = |octets: &[u8]| {
            let mut class = Class::default();
            for &octet in octets {
                class.add(octet);
            }
            (class.dscp(), class.ecn())
        };
        assert_eq!(class(&[]), (None, None));
        assert_eq!(class(&[0xb8, 0xb8]), (Some(46), Some(0)));
        assert_eq!(class(&[0xba, 0xb8]), (Some(46), None));
        assert_eq!(class(&[0x02, 0xba]), (None, Some(2)));
    }
}
