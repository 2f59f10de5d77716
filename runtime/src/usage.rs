//! A mistake on the command line in one line: which flag, what was given, and what to give instead.

use std::error::Error;
use std::num::ParseIntError;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Prints what clap has to say of `program`'s arguments, and exits: help and version with 0, short help where a
/// command is missing with 2, and a mistake as one line on standard error with 2.
pub fn exit(error: &clap::Error, program: Command) -> ! {
    match error.kind() {
        _ if !error.use_stderr() => error.exit(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        // The same, where a variable in the environment counts as an argument.
        ErrorKind::MissingSubcommand => eprint!("{}", short_help(error, program)),
        _ => eprintln!("error: {}", line(error)),
    }
    std::process::exit(2)
}

/// The help of the command that needs one more word.
fn short_help(error: &clap::Error, mut program: Command) -> String {
    program.build();
    let words: Vec<&str> =
        text(error, ContextKind::InvalidSubcommand).unwrap_or_default().split(' ').collect();
    let found =
        words.iter().skip(1).try_fold(&mut program, |command, word| command.find_subcommand_mut(word));
    found.map_or_else(|| line(error), |command| command.render_help().to_string())
}

/// The mistake without `error:` in front. What clap cannot name stays in clap's words, also on one line.
pub fn line(error: &clap::Error) -> String {
    let described = match error.kind() {
        ErrorKind::ValueValidation => refused_value(error),
        ErrorKind::InvalidValue => unknown_value(error),
        ErrorKind::UnknownArgument => unknown_argument(error),
        ErrorKind::InvalidSubcommand => unknown_command(error),
        ErrorKind::MissingRequiredArgument => missing(error),
        ErrorKind::ArgumentConflict => conflict(error),
        ErrorKind::TooManyValues => text(error, ContextKind::InvalidArg)
            .map(|arg| format!("{}: takes no value; leave it out", flag(arg))),
        _ => None,
    };
    described.unwrap_or_else(|| one_line(&error.to_string()))
}

/// A parser's reason that begins with `is` continues the sentence that the value begins.
fn refused_value(error: &clap::Error) -> Option<String> {
    let (arg, value) = (text(error, ContextKind::InvalidArg)?, text(error, ContextKind::InvalidValue)?);
    let reason = error.source().map_or_else(|| "is refused".to_owned(), |source| reason(source, value));
    let colon = if reason.starts_with("is ") { "" } else { ":" };
    Some(format!("{}: {value:?}{colon} {reason}", flag(arg)))
}

/// clap's own words for numbers speak of digits and Rust's ranges.
fn reason(source: &(dyn Error + 'static), value: &str) -> String {
    if source.is::<ParseIntError>() {
        return "is not a whole number in range; give digits only".to_owned();
    }
    let said = one_line(&source.to_string());
    let range = said.strip_prefix(value).and_then(|rest| rest.strip_prefix(" is not in "));
    match range.and_then(|range| range.split_once("..")) {
        Some((least, "")) => format!("is out of range; give {least} or more"),
        Some((least, most)) => {
            format!("is out of range; give {least} to {}", most.trim_start_matches('='))
        }
        None => said,
    }
}

/// A value that is not one of those a flag knows, or none where one is needed.
fn unknown_value(error: &clap::Error) -> Option<String> {
    let (arg, value) = (text(error, ContextKind::InvalidArg)?, text(error, ContextKind::InvalidValue)?);
    let known = texts(error, ContextKind::ValidValue).join(", ");
    Some(match (value, known.as_str()) {
        ("", "") => format!("{}: needs a value; give {arg}", flag(arg)),
        ("", known) => format!("{}: needs a value; give one of {known}", flag(arg)),
        (value, "") => format!("{}: {value:?} is not a value it takes; {}", flag(arg), see_help(error)),
        (value, known) => format!("{}: {value:?} is not one of {known}", flag(arg)),
    })
}

fn unknown_argument(error: &clap::Error) -> Option<String> {
    let arg = text(error, ContextKind::InvalidArg)?;
    let next = match nearest(error, ContextKind::SuggestedArg) {
        Some(near) => format!("did you mean {near}?"),
        None => see_help(error),
    };
    Some(if arg.starts_with('-') {
        format!("{}: there is no such flag; {next}", arg.escape_debug())
    } else {
        format!("{arg:?}: is one argument too many; {next}")
    })
}

fn unknown_command(error: &clap::Error) -> Option<String> {
    let command = text(error, ContextKind::InvalidSubcommand)?;
    Some(match nearest(error, ContextKind::SuggestedSubcommand) {
        Some(near) => format!("{command:?}: there is no such command; did you mean {near}?"),
        None => format!("{command:?}: there is no such command; {}", see_help(error)),
    })
}

fn missing(error: &clap::Error) -> Option<String> {
    let missing: Vec<String> = texts(error, ContextKind::InvalidArg).iter().map(|arg| choice(arg)).collect();
    (!missing.is_empty()).then(|| format!("{}: missing; {}", missing.join(", "), see_help(error)))
}

fn conflict(error: &clap::Error) -> Option<String> {
    let arg = flag(text(error, ContextKind::InvalidArg)?);
    let others: Vec<&str> = texts(error, ContextKind::PriorArg).iter().map(|other| flag(other)).collect();
    Some(match others.as_slice() {
        [other] if *other == arg => format!("{arg}: given more than once; give it once"),
        [] => format!("{arg}: does not go with other flags that were given; leave it out"),
        others => format!("{arg}: does not go with {}; leave one out", others.join(" and ")),
    })
}

/// `--duration` of `--duration <DURATION>`.
fn flag(arg: &str) -> &str {
    [" <", " ["].iter().filter_map(|value| arg.find(value)).min().map_or(arg, |end| &arg[..end])
}

/// `--all-nodes or --nodes <NODE>` of `<--all-nodes|--nodes <NODE>>`.
fn choice(arg: &str) -> String {
    match arg.strip_prefix('<').and_then(|arg| arg.strip_suffix('>')) {
        Some(group) if group.starts_with("--") => group.replace('|', " or "),
        _ => arg.to_owned(),
    }
}

/// The command whose help says what there is, as far as clap's usage line names it.
fn see_help(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphanumeric());
    let words = usage.split_whitespace().skip_while(|word| *word == "Usage:").take_while(is_name);
    let command = words.chain(["--help"]).collect::<Vec<_>>().join(" ");
    format!("see `{command}`")
}

/// clap puts the most similar one last.
fn nearest(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    texts(error, kind).last().map(String::as_str).or_else(|| text(error, kind))
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// The strings of a context; also one that stands alone.
fn texts(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        Some(ContextValue::String(text)) => std::slice::from_ref(text),
        _ => &[],
    }
}

fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use clap::builder::PossibleValuesParser;
    use clap::{Arg, ArgAction, ArgGroup, value_parser};

    use super::*;

    fn program() -> Command {
        let seconds = |text: &str| match text.strip_suffix('s').and_then(|number| number.parse().ok()) {
            Some(seconds) => Ok(Duration::from_secs(seconds)),
            None => Err("is not a duration; for example 30s"),
        };
        let start = Command::new("start")
            .arg(Arg::new("all").long("all-nodes").action(ArgAction::SetTrue))
            .arg(Arg::new("nodes").long("nodes").value_name("NODE"))
            .group(ArgGroup::new("where").required(true).args(["all", "nodes"]))
            .arg(Arg::new("duration").long("duration").value_parser(seconds))
            .arg(Arg::new("ring").long("ring").value_parser(value_parser!(u64).range(8..=64)))
            .arg(Arg::new("least").long("least").value_parser(value_parser!(u32).range(1..)))
            .arg(Arg::new("admin").long("admin").value_parser(value_parser!(SocketAddr)))
            .arg(Arg::new("form").long("form").value_parser(PossibleValuesParser::new(["json", "yaml"])));
        let show = Command::new("show").arg(Arg::new("ID").required(true));
        let program = Command::new("program").subcommand_required(true).arg_required_else_help(true);
        crate::config::takes_negative(program.subcommand(start).subcommand(show))
    }

    fn said(args: &str) -> String {
        line(&program().try_get_matches_from(args.split(' ')).expect_err(args))
    }

    #[test]
    fn a_refused_value_comes_with_its_flag_and_the_way_out() {
        for (given, expected) in [
            ("--duration -1s", "--duration: \"-1s\" is not a duration; for example 30s"),
            ("--duration=", "--duration: \"\" is not a duration; for example 30s"),
            ("--duration", "--duration: needs a value; give --duration <duration>"),
            ("--ring x", "--ring: \"x\" is not a whole number in range; give digits only"),
            ("--ring -5", "--ring: \"-5\" is not a whole number in range; give digits only"),
            ("--ring 9999", "--ring: \"9999\" is out of range; give 8 to 64"),
            ("--least -3", "--least: \"-3\" is out of range; give 1 to 4294967295"),
            ("--admin here", "--admin: \"here\": invalid socket address syntax"),
            ("--form xml", "--form: \"xml\" is not one of json, yaml"),
            ("--form", "--form: needs a value; give one of json, yaml"),
        ] {
            assert_eq!(said(&format!("program start --all-nodes {given}")), expected);
        }
    }

    #[test]
    fn what_is_unknown_comes_with_the_nearest_name() {
        for (given, expected) in [
            ("sow", "\"sow\": there is no such command; did you mean show?"),
            ("zzzzz", "\"zzzzz\": there is no such command; see `program --help`"),
            ("start --all-node", "--all-node: there is no such flag; did you mean --all-nodes?"),
            ("start -9", "-9: there is no such flag; see `program start --help`"),
            ("show a b", "\"b\": is one argument too many; see `program show --help`"),
        ] {
            assert_eq!(said(&format!("program {given}")), expected);
        }
    }

    #[test]
    fn what_is_missing_or_in_conflict_is_named() {
        for (given, expected) in [
            ("show", "<ID>: missing; see `program show --help`"),
            ("start", "--all-nodes or --nodes <NODE>: missing; see `program start --help`"),
            ("start --all-nodes --nodes a", "--all-nodes: does not go with --nodes; leave one out"),
            ("start --all-nodes --all-nodes", "--all-nodes: given more than once; give it once"),
            ("start --all-nodes=1", "--all-nodes: takes no value; leave it out"),
        ] {
            assert_eq!(said(&format!("program {given}")), expected);
        }
    }

    #[test]
    fn text_that_would_steer_a_terminal_stays_text() {
        for given in
            ["start --all-nodes --form \u{1b}[2J", "\u{1b}[2J", "start --\u{1b}[2J", "show a \u{1b}[2J"]
        {
            let line = said(&format!("program {given}"));
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }
}
