//! What every command knows besides its own flags.

use std::io::IsTerminal;

use crate::cli::Global;
use crate::output::style::Style;

/// The global flags and what the standard streams are.
#[derive(Clone, Debug)]
pub struct Context {
    /// The flags that every command takes.
    pub global: Global,
    /// Whether standard output takes colour.
    pub style: Style,
    /// Whether standard error is a terminal on which a display may move.
    pub progress: bool,
}

impl Context {
    /// For this process's streams. Colour needs a terminal, and `NO_COLOR` unset or empty (no-color.org).
    pub fn for_process(global: Global) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = std::io::stdout().is_terminal() && !forbidden && !dumb;
        Self { global, style: Style { colour }, progress: std::io::stderr().is_terminal() }
    }
}
