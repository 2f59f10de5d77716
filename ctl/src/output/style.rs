//! Colour, where it is wanted.

use anstyle::{AnsiColor, Color};

/// Whether text may be coloured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Escape sequences are written.
    pub colour: bool,
}

impl Style {
    /// Something is wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint(text, AnsiColor::Red)
    }

    /// Something deserves a look.
    pub fn doubtful(self, text: &str) -> String {
        self.paint(text, AnsiColor::Yellow)
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.paint(text, AnsiColor::Green)
    }

    fn paint(self, text: &str, colour: AnsiColor) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = anstyle::Style::new().fg_color(Some(Color::Ansi(colour))).bold();
        format!("{style}{text}{style:#}")
    }
}
