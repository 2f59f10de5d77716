//! How the process ends.

use std::io;
use std::process::ExitCode;

use crate::output::escape;

/// What the exit code tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, and nothing lost above the threshold.
    Done = 0,
    /// Loss above the threshold.
    Loss = 1,
    /// Usage or operation failed.
    Failed = 2,
    /// No loss above the threshold, but too much could not be observed to say that nothing was lost.
    Unsure = 3,
}

/// Prints the error, if it is one, as a single line, and turns the outcome into an exit code. A reader that closed
/// the pipe early (`| head`) got what it wanted: no error.
pub fn report(outcome: crate::Outcome) -> ExitCode {
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            eprintln!("error: {}", line(&error));
            Exit::Failed
        }
    };
    ExitCode::from(exit as u8)
}

/// The whole chain of an error in one line that is safe to print.
pub fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors name their cause themselves.
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    escape::line(&line).into_owned()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn the_line_names_each_cause_once() {
        let error = anyhow!("no such file").context("cannot read a: no such file").context("b");
        assert_eq!(line(&error), "b: cannot read a: no such file");
        assert_eq!(line(&anyhow!("two\nlines \u{1b}[2J")), "two\\nlines \\u{1b}[2J");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed =
            Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)).context("packet 3").unwrap_err();
        assert!(is_broken_pipe(&closed) && !is_broken_pipe(&anyhow!("broken pipe")));
    }
}
