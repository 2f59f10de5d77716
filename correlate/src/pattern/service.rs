//! Names of DSCP and ECN values.

/// `DSCP 46 (EF)`: the registry of IANA, "Differentiated Services Field Codepoints".
pub(crate) fn dscp(value: u8) -> String {
    let name = match value {
        46 => "EF".to_owned(),
        44 => "VOICE-ADMIT".to_owned(),
        1 => "LE".to_owned(),
        value if value.is_multiple_of(8) => format!("CS{}", value / 8),
        // RFC 2597: four classes of three drop precedences.
        value if value.is_multiple_of(2) && (8..40).contains(&value) => {
            format!("AF{}{}", value / 8, value % 8 / 2)
        }
        _ => return format!("DSCP {value}"),
    };
    format!("DSCP {value} ({name})")
}

/// The codepoint's name, RFC 3168 §5.
pub(crate) fn ecn(value: u8) -> &'static str {
    ["Not-ECT", "ECT(1)", "ECT(0)", "CE"][usize::from(value & 3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_registered_names() {
        let names = [0, 8, 10, 38, 46, 1, 5, 41].map(dscp);
        assert_eq!(
            names,
            [
                "DSCP 0 (CS0)",
                "DSCP 8 (CS1)",
                "DSCP 10 (AF11)",
                "DSCP 38 (AF43)",
                "DSCP 46 (EF)",
                "DSCP 1 (LE)",
                "DSCP 5",
                "DSCP 41"
            ]
        );
        assert_eq!([0, 1, 2, 3].map(ecn), ["Not-ECT", "ECT(1)", "ECT(0)", "CE"]);
    }
}
