//! `completion`.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::Outcome;
use crate::exit::Exit;

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(ctl completion bash)                       # for this shell
  ctl completion bash > /etc/bash_completion.d/ctl    # for every shell, as root
  ctl completion zsh > \"${fpath[1]}/_ctl\"")]
pub struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::cli::command(), "ctl", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Done)
}
