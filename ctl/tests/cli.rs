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

const COMMANDS: [&str; 26] = [
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
    "diff-files",
    "list-flows",
    "list-lost",
    "run-probe",
    "list-probes",
    "show-probe",
    "stop-probe",
    "diff-probes",
    "trace-path",
    "check-host",
    "check-path",
    "list-audit",
    "export-topology",
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
fn a_usage_error_is_one_line_and_exits_with_2() {
    for (args, expected) in [
        (&["list-node"][..], "error: \"list-node\": there is no such command; did you mean list-nodes?\n"),
        (&["stop-capture"], "error: <ID>: missing; see `ctl stop-capture --help`\n"),
        (
            &["list-nodes", "-o", "xml"],
            "error: --output: \"xml\" is not one of table, wide, json, yaml, name, junit\n",
        ),
        (
            &["list-lost", "--limit", "-5"],
            "error: --limit: \"-5\" is not a whole number above 0; give, for example, 100\n",
        ),
        (
            &["pki", "issue", "ca", "agent", "a", "--out", "x", "--valid-for", "-1d"],
            "error: --valid-for: \"-1d\" is not longer than 0; give, for example, 30s or 5m\n",
        ),
        (
            &["diff-nodes", "--min-loss", "-1%"],
            "error: --min-loss: \"-1%\" is not a share from 0 to 100%; give, for example, 0.1% or 0.001\n",
        ),
        (
            &["delete-capture", "c-1", "-o", "junit"],
            "error: output: only diff-nodes and diff-files write junit; use table, wide, json, yaml or name\n",
        ),
        (&["pki", "isue"], "error: \"isue\": there is no such command; did you mean issue?\n"),
    ] {
        let output = ctl(args, &[]);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), expected), "{args:?}");
    }
}

#[test]
fn without_a_command_the_help_is_short_and_the_exit_code_2() {
    for (args, usage) in [(&[][..], "\nUsage: ctl [OPTIONS] <COMMAND>\n"), (&["pki"], "\nUsage: ctl pki ")] {
        for environment in [&[][..], &[("LASTSEEN_SERVER", "a:1")]] {
            let output = ctl(args, environment);
            assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{args:?}: {output:?}");
            let help = err(&output);
            assert!(help.contains(usage) && help.contains("Examples:"), "{args:?} {environment:?}: {help}");
        }
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
    assert!(
        err(&output).contains("error: LASTSEEN_SNAPLEN: \"9\" is not a whole number from 64"),
        "{output:?}"
    );
    let output = ctl(&["start-capture"], &[("LASTSEEN_NODES", "a,a")]);
    assert!(err(&output).contains("nodes: \"a\" is named twice"), "{output:?}");
}

#[test]
fn a_bad_value_is_blamed_on_where_it_came_from() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "output = 'xml'").unwrap();
    let config = file.path().to_str().unwrap();
    let environment = [("LASTSEEN_OUTPUT", "xml"), ("LASTSEEN_MIN_LOSS", "2")];
    for (args, environment, expected) in [
        (&["list-nodes"][..], &environment[..1], "error: LASTSEEN_OUTPUT: \"xml\" is not one of ".to_owned()),
        (
            &["list-nodes", "-o", "xml"],
            &environment[..1],
            "error: --output: \"xml\" is not one of ".to_owned(),
        ),
        (
            &["list-nodes", "--config", config],
            &[],
            format!("error: --config: {config}: output: \"xml\" is not one of "),
        ),
        (
            &["diff-files", "a/b=c"],
            &environment[1..],
            "error: LASTSEEN_MIN_LOSS: \"2\" is not a share".to_owned(),
        ),
        (
            &["start-capture", "--all-nodes"],
            &[("LASTSEEN_NODES", "a")],
            "error: --all-nodes: does not go with LASTSEEN_NODES; leave one out".to_owned(),
        ),
    ] {
        let output = ctl(args, environment);
        assert!(
            output.status.code() == Some(2) && err(&output).starts_with(&expected),
            "{expected}: {output:?}"
        );
    }
}

#[test]
fn unknown_keys_of_the_file_are_all_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "sever = 'x'\noutput = 'json'\nverbos = true").unwrap();
    let output = ctl(&["list-nodes", "--config", file.path().to_str().unwrap()], &[]);
    let err = err(&output);
    assert_eq!((output.status.code(), err.lines().count()), (Some(2), 1), "{err}");
    assert!(err.contains("sever: unknown key; verbos: unknown key; known keys: server, pki-dir"), "{err}");
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&ctl(&["completion", shell], &[]));
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
}
