//! Where a value that was refused comes from: nobody typed a flag whose value the file or the environment gave.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// What was given besides the environment.
pub(crate) struct Given<'g> {
    /// Arguments as typed.
    pub(crate) typed: &'g [OsString],
    /// The file, and what it gave as arguments.
    pub(crate) file: Option<(&'g Path, &'g [OsString])>,
}

/// Puts the variable, or the key of the file, in place of each flag of `error` that was not typed.
pub(crate) fn name(mut error: clap::Error, command: &Command, given: &Given<'_>) -> clap::Error {
    let origin = |arg: &String| given.origin(command, arg).unwrap_or_else(|| arg.clone());
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let named = match error.get(kind) {
            Some(ContextValue::String(arg)) => ContextValue::String(origin(arg)),
            Some(ContextValue::Strings(args)) => ContextValue::Strings(args.iter().map(origin).collect()),
            _ => continue,
        };
        error.insert(kind, named);
    }
    error
}

impl Given<'_> {
    /// Of a flag as clap shows it, `--duration <DURATION>`. Absent if it was typed, or given nowhere.
    fn origin(&self, command: &Command, shown: &str) -> Option<String> {
        let flag = shown.split_whitespace().next()?;
        let arg = find(command, flag.strip_prefix("--")?)?;
        let is_in = |args: &[OsString]| args.iter().any(|text| is_of(text, flag, arg.get_short()));
        if is_in(self.typed) {
            return None;
        }
        if let Some((path, _)) = self.file.filter(|(_, args)| is_in(args)) {
            return Some(format!("--config: {}: {}", path.display(), arg.get_long()?));
        }
        let variable = arg.get_env().filter(|variable| std::env::var_os(variable).is_some())?;
        Some(variable.to_string_lossy().into_owned())
    }
}

/// The flag of that name, of whichever command: flags of one name share a variable.
fn find<'c>(command: &'c Command, long: &str) -> Option<&'c Arg> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    own.or_else(|| command.get_subcommands().find_map(|command| find(command, long)))
}

/// `--output`, `--output=json`, `-o`, `-ojson` or `-qo`.
fn is_of(text: &OsString, flag: &str, short: Option<char>) -> bool {
    let text = text.to_string_lossy();
    let is_long = text.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    let shorts = text.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    is_long || shorts.zip(short).is_some_and(|(shorts, short)| shorts.contains(short))
}
