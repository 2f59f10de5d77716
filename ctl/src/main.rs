//! `ctl`: one command per call of the coordinator, and what can be done without one.

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = lastseen_ctl::cli::parse();
    lastseen_ctl::run(cli)
}
