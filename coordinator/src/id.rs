//! Names of jobs, short enough to be read out.

use rand::Rng;

/// No two of them are mistaken for each other.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstvwxyz0123456789";

/// `kind`, a hyphen and six letters or digits: a thousand million names.
pub(crate) fn random(kind: char) -> String {
    let letters: String = (0..6).map(|_| LETTERS[rand::rng().random_range(0..32)] as char).collect();
    format!("{kind}-{letters}")
}
