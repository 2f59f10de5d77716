//! Removes what an interrupted run or `make demo KEEP=1` left behind.

use std::process::ExitCode;

use clap::Parser;
use lastseen_tests::lab::cleanup;

/// Look after labs that outlived the program that built them
#[derive(Debug, Parser)]
enum Command {
    /// Show the namespaces of every lab
    List,
    /// Stop what runs in a lab and remove its namespaces and files
    Clean {
        /// Start of the namespaces' names, whoever still runs there; without it, the labs whose program is gone
        #[arg(long, conflicts_with = "all")]
        prefix: Option<String>,
        /// Remove every lab, those of programs that still run too
        #[arg(long)]
        all: bool,
    },
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::List => {
            for name in cleanup::namespaces(cleanup::PREFIX) {
                println!("{name}");
            }
        }
        Command::Clean { prefix: Some(prefix), .. } if !prefix.starts_with(cleanup::PREFIX) => {
            eprintln!(
                "error: --prefix {prefix:?} is no lab: the names of labs start with {}",
                cleanup::PREFIX
            );
            return ExitCode::from(2);
        }
        Command::Clean { prefix: Some(prefix), .. } => removed(cleanup::clean(&prefix)),
        Command::Clean { all: true, .. } => removed(cleanup::clean(cleanup::PREFIX)),
        Command::Clean { .. } => removed(cleanup::clean_abandoned()),
    }
    ExitCode::SUCCESS
}

fn removed(namespaces: usize) {
    println!("{namespaces} namespaces removed");
}
