//! What may stand in a SPIFFE URI and a certificate's subject.

/// Longest name, that of DNS (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// Checks the name of an agent, operator or viewer: Kubernetes node names pass, slashes and blanks do not.
pub fn name(text: &str) -> Result<String, String> {
    checked(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).ok_or_else(|| {
        format!("use 1 to {LONGEST} letters, digits, '-', '.' and '_', beginning with a letter or digit")
    })
}

/// Checks a trust domain, SPIFFE ID § 2.1: lower case, no port.
pub fn trust_domain(text: &str) -> Result<String, String> {
    checked(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_')).ok_or_else(|| {
        format!("use 1 to {LONGEST} lower-case letters, digits, '-', '.' and '_', beginning with a letter or digit")
    })
}

fn checked(text: &str, allowed: impl Fn(char) -> bool) -> Option<String> {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    (begins_well && text.len() <= LONGEST && text.chars().all(allowed)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_uri() {
        assert!(name("node-a.example").is_ok() && name("Eve_1").is_ok());
        for bad in ["", "-a", ".a", "a/b", "a b", "a%2f", "ä", &"a".repeat(254)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn trust_domains_are_lower_case() {
        assert!(trust_domain("lastseen").is_ok() && trust_domain("prod.example").is_ok());
        assert!(trust_domain("Prod").is_err() && trust_domain("a:1").is_err() && trust_domain("").is_err());
    }
}
