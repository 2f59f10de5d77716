//! Page sizes and tokens.

use crate::error::Error;
use crate::store::Cursor;

/// The size asked for, or the default, within the limit.
pub(super) fn size(asked: u32, default: u32, most: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(default),
        n if n > most => Err(Error::invalid("page_size", format!("{n} is above the limit of {most}"))),
        n => Ok(n),
    }
}

/// Token of a place among the captures.
pub(super) fn cursor_token(cursor: &Cursor) -> String {
    format!("{}/{}", cursor.created_at_nanos, cursor.id)
}

/// The place a token stands for; none for the first page.
pub(super) fn cursor(token: &str) -> Result<Option<Cursor>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.split_once('/').and_then(|(created_at, id)| {
        Some(Cursor { created_at_nanos: created_at.parse().ok()?, id: id.to_owned() })
    });
    parsed.map(Some).ok_or_else(|| bad_token(token))
}

/// The ordinal a token stands for; 0 for the first page.
pub(super) fn ordinal(token: &str) -> Result<u64, Error> {
    if token.is_empty() { Ok(0) } else { token.parse().map_err(|_| bad_token(token)) }
}

fn bad_token(token: &str) -> Error {
    let shown: String = token.chars().take(40).collect();
    Error::invalid("page_token", format!("{shown:?} is not the next_page_token of a page; leave it empty"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn a_page_is_as_large_as_asked_up_to_the_limit() {
        for (default, most) in [
            (limits::DEFAULT_CAPTURES_PAGE, limits::CAPTURES_PAGE),
            (limits::DEFAULT_RECORDS_PAGE, limits::RECORDS_PAGE),
        ] {
            for (asked, given) in [(0, default), (1, 1), (most - 1, most - 1), (most, most)] {
                assert_eq!(size(asked, default, most).unwrap(), given);
            }
            let refused = size(most + 1, default, most).unwrap_err().to_string();
            assert_eq!(refused, format!("page_size: {} is above the limit of {most}", most + 1));
        }
    }
}
