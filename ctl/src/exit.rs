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
    escape::line(&format!("{error:#}")).into_owned()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
