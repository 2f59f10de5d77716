//! Settings from flags, environment and a file.
//!
//! A program describes its flags once, with clap. The keys of the TOML file are the long flags; the file fills in
//! what neither the command line nor the environment gives.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::origin::{self, Given};
use crate::usage;

/// Parses this process's command line. Prints what is wrong in one line and exits with 2, or prints help and exits
/// with 0.
pub fn parse<T: CommandFactory + FromArgMatches>() -> T {
    resolve(std::env::args_os().collect()).unwrap_or_else(|error| usage::exit(&error, T::command()))
}

/// As [`parse`], from given arguments, the first of which is the program's name.
pub fn resolve<T: CommandFactory + FromArgMatches>(mut args: Vec<OsString>) -> Result<T, clap::Error> {
    let mut command = takes_negative(T::command());
    // A value that the file provides must not be missed on the first pass.
    let lenient = command.clone().mut_args(|arg| arg.required(false));
    let (typed, mut file) = (args.clone(), None);
    if let Ok(matches) = lenient.try_get_matches_from(&args)
        && let Some(path) = matches.try_get_one::<PathBuf>("config").ok().flatten()
    {
        let from_file = read(&command, &matches, path)
            // Without the usage that clap would add: the mistakes are in the file.
            .map_err(|mistakes| clap::Error::raw(ErrorKind::InvalidValue, format!("--config: {mistakes}")))?;
        args.splice(1..1, from_file.iter().cloned());
        file = Some((path.clone(), from_file));
    }
    let matches = command.try_get_matches_from_mut(args).map_err(|error| {
        let file = file.as_ref().map(|(path, args)| (path.as_path(), args.as_slice()));
        origin::name(error, &command, &Given { typed: &typed, file })
    })?;
    T::from_arg_matches(&matches)
}

/// Lets a value that is no text begin with a hyphen: `--duration -1s` is a bad duration, not an unknown flag `-1`.
/// Text stays as it is, or a forgotten value would swallow the flag that follows.
pub(crate) fn takes_negative(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let parser = arg.get_value_parser().type_id();
        let is_text = [TypeId::of::<String>(), TypeId::of::<OsString>(), TypeId::of::<PathBuf>()]
            .iter()
            .any(|text| parser == *text);
        let is_typed = arg.get_long().is_some() && arg.get_action().takes_values() && !is_text;
        if is_typed { arg.allow_hyphen_values(true) } else { arg }
    });
    command.mut_subcommands(takes_negative)
}

/// The file's keys as arguments, without those that are given elsewhere; or every mistake in it.
fn read(command: &Command, given: &ArgMatches, path: &Path) -> Result<Vec<OsString>, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {place}: {e}"))?;
    let table: toml::Table = text.parse().map_err(|e| format!("{place}: {}", unreadable(&text, &e)))?;
    let (mut args, mut errors, mut is_unknown) = (Vec::new(), Vec::new(), false);
    for (key, value) in &table {
        match command.get_arguments().find(|arg| arg.get_long() == Some(key) && key != "config") {
            Some(arg) if is_given(given, arg) => {}
            Some(arg) => match arguments(arg, key, value) {
                Ok(more) => args.extend(more),
                Err(reason) => errors.push(format!("{key}: {reason}")),
            },
            None => {
                is_unknown = true;
                errors.push(format!("{}: unknown key", key.escape_debug()));
            }
        }
    }
    errors.extend(is_unknown.then(|| format!("known keys: {}", keys(command))));
    if errors.is_empty() { Ok(args) } else { Err(format!("{place}: {}", errors.join("; "))) }
}

/// What is wrong with `text`: the TOML parser's message with its line, without the picture of the place.
pub fn unreadable(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn keys(command: &Command) -> String {
    let longs = command.get_arguments().filter_map(Arg::get_long);
    longs.filter(|long| !["config", "help", "version"].contains(long)).collect::<Vec<_>>().join(", ")
}

fn is_given(matches: &ArgMatches, arg: &Arg) -> bool {
    matches!(
        matches.value_source(arg.get_id().as_str()),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

fn arguments(arg: &Arg, key: &str, value: &toml::Value) -> Result<Vec<OsString>, String> {
    use toml::Value::{Array, Boolean, Float, Integer, String as Text};
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let one = |value: &toml::Value| match value {
        Text(text) => Ok(format!("--{key}={text}").into()),
        Integer(number) => Ok(format!("--{key}={number}").into()),
        Float(number) => Ok(format!("--{key}={number}").into()),
        Boolean(on) => Ok(format!("--{key}={on}").into()),
        other => Err(format!("a {} is not a value; give a string, number or list", other.type_str())),
    };
    match value {
        Boolean(on) if is_switch => Ok(if *on { vec![format!("--{key}").into()] } else { Vec::new() }),
        _ if is_switch => Err("give true or false".to_owned()),
        Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(clap::Parser, Debug)]
    struct Flags {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        listen: String,
        #[arg(long, default_value_t = 7)]
        size: u32,
        #[arg(long, env = "LASTSEEN_TEST_FROM_ENVIRONMENT")]
        place: Option<String>,
        #[arg(long)]
        quiet: bool,
        #[arg(long, value_delimiter = ',')]
        peer: Vec<String>,
    }

    fn flags(file: &str, args: &[&str]) -> Result<Flags, String> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let mut all: Vec<OsString> = vec!["program".into(), "--config".into(), config.path().into()];
        all.extend(args.iter().map(Into::into));
        resolve(all).map_err(|e| usage::line(&e))
    }

    #[test]
    fn file_fills_what_flags_leave_open() {
        let file = "listen = 'a:1'\nsize = 9\nquiet = true\npeer = ['x', 'y']";
        let parsed = flags(file, &["--size", "3"]).unwrap();
        assert_eq!((parsed.listen.as_str(), parsed.size, parsed.quiet), ("a:1", 3, true));
        assert_eq!(parsed.peer, ["x", "y"]);
        assert!(parsed.config.is_some() && parsed.place.is_none());
    }

    #[test]
    fn every_unknown_key_is_named() {
        let error = flags("lisen = 'a:1'\nsiez = 1\nlisten = 'b:1'", &[]).unwrap_err();
        assert!(error.contains("lisen: unknown key") && error.contains("siez: unknown key"), "{error}");
        assert!(error.ends_with("; known keys: listen, size, place, quiet, peer"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_toml_gives_one_line_with_its_place() {
        let error = flags("listen = 'a:1'\n\nsize = = 9", &[]).unwrap_err();
        assert!(error.starts_with("--config: /") && error.contains(": line 3: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn a_forgotten_text_swallows_no_flag_and_a_negative_number_is_a_value() {
        let (text, number) = (flags("", &["--listen", "--quiet"]), flags("", &["--size", "-4"]));
        assert_eq!(text.unwrap_err(), "--listen: needs a value; give --listen <LISTEN>");
        assert_eq!(number.unwrap_err(), "--size: \"-4\" is out of range; give 0 to 4294967295");
    }

    #[test]
    fn wrong_types_and_missing_values_are_errors() {
        let refused = flags("listen = 'a:1'\nsize = 'nine'", &[]).unwrap_err();
        assert!(refused.starts_with("--config: /"), "{refused}");
        assert!(
            refused.ends_with(": size: \"nine\" is not a whole number in range; give digits only"),
            "{refused}"
        );
        let typed = flags("listen = 'a:1'\nsize = 9", &["--size", "ten"]).unwrap_err();
        assert!(typed.starts_with("--size: \"ten\" is not"), "{typed}");
        assert!(flags("listen = { a = 1 }", &[]).unwrap_err().contains("listen: a table is not a value"));
        assert!(flags("size = 1", &[]).unwrap_err().contains("--listen"));
    }
}
