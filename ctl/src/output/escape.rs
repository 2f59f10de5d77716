//! Text that came over the network or out of a file must not steer the terminal it is printed on.

use std::borrow::Cow;

/// `text` with control characters, and characters that change the direction of writing, made visible. Line breaks
/// count as control characters: the result is one line.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// JSON text with the same characters as `\u` escapes. Serializers escape only U+0000 to U+001F; the others can
/// stand nowhere but in strings. Line breaks outside of strings stay.
pub(crate) fn json(text: String) -> String {
    if !text.chars().any(|c| is_unsafe(c) && c != '\n') {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            escaped.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn is_unsafe(c: char) -> bool {
    // Bidirectional controls, Unicode Standard Annex 9, and the line and paragraph separators.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_line_breaks_become_visible() {
        assert_eq!(line("a\u{1b}[31mred\n\u{9b}2J"), "a\\u{1b}[31mred\\n\\u{9b}2J");
        assert_eq!(line("evil\u{202e}txt"), "evil\\u{202e}txt");
        assert!(matches!(line("10.0.0.1 → ünï"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "name": "a\u{9b}2J\u{202e}b\u{7f}" });
        let text = json(serde_json::to_string_pretty(&value).unwrap());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
