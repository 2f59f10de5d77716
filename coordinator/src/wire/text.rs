//! Texts of peers.

use crate::limits;

/// At most [`limits::AGENT_TEXT_BYTES`] of a text, cut at a character.
pub fn bounded(mut text: String) -> String {
    if text.len() > limits::AGENT_TEXT_BYTES {
        let end = (0..=limits::AGENT_TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
