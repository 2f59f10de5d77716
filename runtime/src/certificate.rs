//! What a certificate says besides who it is for, and which certificates are good no more although they have not ended.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

/// Bytes of a serial number, RFC 5280 §4.1.2.2.
const SERIAL_BYTES: usize = 20;
/// A certificate that ends sooner is worth a warning: two weeks.
pub const EXPIRES_SOON: Duration = Duration::from_hours(14 * 24);

/// Number that its authority gave a certificate. Leading zeros do not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serial(Vec<u8>);

impl FromStr for Serial {
    type Err = String;

    /// Reads hexadecimal digits, with or without colons, as `openssl x509 -serial` and `-text` show them.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
        let digits = digits.trim_start_matches('0');
        if !is_number || digits.len() > 2 * SERIAL_BYTES {
            let most = 2 * SERIAL_BYTES;
            return Err(format!(
                "is not a serial number; give 1 to {most} hexadecimal digits, as `openssl x509 -serial` does"
            ));
        }
        let even = if digits.len().is_multiple_of(2) { digits.to_owned() } else { format!("0{digits}") };
        let byte = |at: usize| u8::from_str_radix(&even[at..at + 2], 16).unwrap_or_default();
        Ok(Self((0..even.len()).step_by(2).map(byte).collect()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// What matters of a certificate besides its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub serial: Serial,
    /// Its end.
    pub not_after: SystemTime,
    /// It says that its holder may be a client, RFC 5280 §4.2.1.12.
    pub is_client: bool,
}

impl Facts {
    /// From a DER certificate.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let seconds = certificate.validity().not_after.timestamp();
        let usage = certificate.extended_key_usage().map_err(|e| e.to_string())?;
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        Ok(Self {
            serial: Serial(serial[zeros..].to_vec()),
            not_after: UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0)),
            is_client: usage.is_some_and(|usage| usage.value.client_auth),
        })
    }
}

/// Whole days until `not_after` if that is sooner than [`EXPIRES_SOON`]; 0 once it has passed.
pub fn days_left_if_soon(not_after: SystemTime, now: SystemTime) -> Option<u64> {
    const DAY: u64 = 86_400;
    let left = not_after.duration_since(now).unwrap_or_default();
    (left < EXPIRES_SOON).then_some(left.as_secs() / DAY)
}

/// Names and serial numbers of certificates that are refused although they are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    /// Identities, whatever certificate they show.
    pub names: HashSet<Identity>,
    /// Single certificates.
    pub serials: HashSet<Serial>,
}

impl DenyList {
    /// What on this list a certificate is refused for, as a person would look for it in the list.
    pub fn covers(&self, identity: Option<&Identity>, serial: &Serial) -> Option<String> {
        let name = identity.filter(|identity| self.names.contains(*identity)).map(Identity::to_string);
        name.or_else(|| self.serials.contains(serial).then(|| format!("serial {serial}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_however_it_is_written() {
        let serial = |text: &str| text.parse::<Serial>();
        assert_eq!(serial("0A:1b"), serial("a1B"));
        assert_eq!(serial("00").unwrap().to_string(), "00");
        assert_eq!(serial("000a1b").unwrap().to_string(), "0A1B");
        for bad in ["", ":", "0x1", "12 34", &"1".repeat(41)] {
            assert!(serial(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_ends_within_two_weeks_is_worth_a_warning() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let left = |hours: u64| days_left_if_soon(now + Duration::from_hours(hours), now);
        assert_eq!([left(14 * 24), left(14 * 24 - 1), left(23)], [None, Some(13), Some(0)]);
        assert_eq!(days_left_if_soon(now - Duration::from_secs(1), now), Some(0));
    }
}
