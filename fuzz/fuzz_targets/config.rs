//! Settings from a TOML file, a variable and flags, any of them hostile: either values come out that keep to their
//! bounds, or one line that can be shown on a terminal.
//!
//! Zero bytes separate the file, the variable and the flags, which can hold none.

#![no_main]

mod common;
#[path = "../../runtime/src/config.rs"]
#[allow(dead_code, reason = "programs use more of it")]
mod config;
#[path = "../../runtime/src/origin.rs"]
mod origin;
#[path = "../../runtime/src/usage.rs"]
#[allow(dead_code, reason = "programs use more of it")]
mod usage;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use common::{parts, planted, scratch, seeds};
use libfuzzer_sys::fuzz_target;

const VARIABLE: &str = "LASTSEEN_FUZZ_PLACE";

/// Flags of every kind that the programs have.
#[derive(clap::Parser, Debug)]
#[command(name = "program")]
struct Flags {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long, required = true)]
    listen: String,
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(8192..=1 << 30))]
    ring_bytes: u64,
    #[arg(long, env = VARIABLE)]
    place: Option<String>,
    #[arg(long, default_value = "never")]
    fsync: Fsync,
    #[arg(short, long)]
    quiet: bool,
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Fsync {
    Never,
    Close,
    Batch,
}

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch().join("config.toml"));

fuzz_target!(init: seeds(settings()), |data: &[u8]| {
    let mut parts = parts(data);
    std::fs::write(&*FILE, parts.next().unwrap_or_default()).unwrap();
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    match parts.next().filter(|value| !value.is_empty()) {
        // SAFETY: this process has one thread that looks at its environment.
        Some(value) => unsafe { std::env::set_var(VARIABLE, text(value)) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(VARIABLE) },
    }
    let mut args: Vec<OsString> = vec!["program".into(), "--config".into(), FILE.clone().into()];
    args.extend(parts.map(text));
    match config::resolve::<Flags>(args) {
        Ok(flags) => {
            assert!((8192..=1 << 30).contains(&flags.ring_bytes), "{flags:?}");
            planted(|| flags.quiet && ![8192, 9000].contains(&flags.ring_bytes));
        }
        Err(error) => {
            let line = usage::line(&error);
            assert!(!line.is_empty() && line.len() < 8 * data.len() + 1_000, "{} bytes", line.len());
            if error.use_stderr() {
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
});

fn settings() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("file", b"listen = 'a:1'\nring-bytes = 9000\nquiet = true\npeer = ['x', 'y']".to_vec()),
        ("flags", b"\0\0--listen\0b:2\0--peer=x,y\0-q\0--ring-bytes=8192".to_vec()),
        ("variable", b"listen = 'a:1'\0/place".to_vec()),
        ("choice", b"fsync = 'batch'\nadmin-listen = '127.0.0.1:7'\0\0--listen=c:3".to_vec()),
        ("wrong", b"ring-bytes = -4\nfsync = 'often'\nlisten = { a = 1 }\nunknown = 1.5".to_vec()),
    ]
}
