//! The command line itself: help, environment, configuration file, completion.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use std::io::Write;
use std::process::{Command, Output};

fn ctl(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LASTSEEN_")) {
        command.env_remove(name);
    }
    command.args(args).envs(environment.iter().copied()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const COMMANDS: [&str; 15] = [
    "pki",
    "list-nodes",
    "show-node",
    "start-capture",
    "list-captures",
    "show-capture",
    "follow-capture",
    "stop-capture",
    "delete-capture",
    "diff-nodes",
    "list-flows",
    "list-lost",
    "show-file",
    "doctor",
    "completion",
];

#[test]
fn the_command_line_is_consistent() {
    lastseen_ctl::cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_examples() {
    let known: Vec<String> =
        lastseen_ctl::cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert_eq!(known, COMMANDS);
    for command in COMMANDS {
        let output = ctl(&[command, "--help"], &[]);
        let help = out(&output);
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
        assert!(help.contains(&format!("\n  ctl {command}")), "{command}: {help}");
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [&[][..], &["no-such-command"], &["show-capture"], &["list-nodes", "-o", "xml"], &["pki"]] {
        assert_eq!(ctl(args, &[]).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "server = 'from-file'\npki-dir = '/nonexistent'").unwrap();
    let config = file.path().to_str().unwrap();
    let parsed = |args: &[&str]| {
        let args = ["ctl"].iter().chain(args).map(Into::into).collect();
        lastseen_ctl::cli::resolve(args).unwrap().global
    };
    assert_eq!(parsed(&["--config", config, "list-nodes"]).server, "from-file");
    assert_eq!(parsed(&["list-nodes", "--config", config]).server, "from-file");
    assert_eq!(parsed(&["list-nodes", "--config", config, "--server", "flag"]).server, "flag");
    // The environment of this process is shared by all tests, so this one asks a process of its own.
    let output =
        ctl(&["list-nodes"], &[("LASTSEEN_PKI_DIR", "/from-environment"), ("LASTSEEN_CONFIG", config)]);
    assert!(err(&output).contains("/from-environment/ca.crt"), "{output:?}");
    let output = ctl(&["list-nodes", "--config", config], &[]);
    assert!(err(&output).contains("/nonexistent/ca.crt"), "{output:?}");
}

#[test]
fn every_flag_of_a_command_has_a_variable() {
    let output = ctl(&["start-capture"], &[("LASTSEEN_ALL_NODES", "true"), ("LASTSEEN_SNAPLEN", "9")]);
    assert!(err(&output).contains("invalid value '9' for '--snaplen"), "{output:?}");
    let output = ctl(&["start-capture"], &[("LASTSEEN_NODES", "a,a")]);
    assert!(err(&output).contains("nodes: \"a\" is named twice"), "{output:?}");
}

#[test]
fn unknown_keys_of_the_file_are_all_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "sever = 'x'\noutput = 'json'\nverbos = true").unwrap();
    let output = ctl(&["list-nodes", "--config", file.path().to_str().unwrap()], &[]);
    let err = err(&output);
    assert!(output.status.code() == Some(2) && err.contains("sever") && err.contains("verbos"), "{err}");
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&ctl(&["completion", shell], &[]));
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
}
