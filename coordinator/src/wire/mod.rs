//! Between generated messages and the coordinator's own words. Bounds on what peers send are enforced here.

pub mod agent;
pub mod batch;
pub mod capture;
pub mod node;

use crate::limits;

/// At most [`limits::AGENT_TEXT_BYTES`] of a text, cut at a character.
pub fn bounded(mut text: String) -> String {
    if text.len() > limits::AGENT_TEXT_BYTES {
        let end = (0..=limits::AGENT_TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
