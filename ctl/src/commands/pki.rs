//! `pki init` and `pki issue`.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use lastseen_runtime::identity::Role;
use serde_json::json;

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::pki::{self, Authority, Request, Validity};
use crate::{output, parse};

/// Make a certificate authority and identities, for use outside Kubernetes.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "clap takes a command's help from its arguments' documentation, a variant's would hide it"
)]
#[command(after_help = "\
Examples:
  ctl pki init ca
  ctl pki issue ca coordinator coordinator --dns coordinator.example --ip 10.0.0.1 --out pki/coordinator
  ctl pki issue ca agent node-a --out pki/node-a
  ctl pki issue ca operator alice --out pki/alice")]
pub enum Command {
    Init(Init),
    Issue(Issue),
}

/// Make a certificate authority: ca.crt, and ca.key that only you can read.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ctl pki init ca --trust-domain prod.example")]
pub struct Init {
    /// Directory to write; must not hold an authority.
    dir: PathBuf,
    /// Authority part of every identity, spiffe://<trust-domain>/…
    #[arg(long, default_value = "lastseen", value_parser = pki::trust_domain)]
    trust_domain: String,
}

/// Issue an identity: ca.crt, tls.crt and tls.key. Issuing it again into the same directory renews it; running
/// programs take over the new files by themselves.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl pki init ca && ctl pki issue ca operator alice --out pki/alice
  ctl pki issue ca coordinator coordinator --dns coordinator.example --ip 10.0.0.1 --out pki/coordinator
  ctl pki issue ca agent node-a --valid-for 30d --out pki/node-a")]
pub struct Issue {
    /// Directory of the authority.
    dir: PathBuf,
    /// What the holder may be.
    role: RoleName,
    /// Node name of an agent, name of an operator or viewer. For a coordinator any name.
    #[arg(value_parser = pki::name)]
    name: String,
    /// Host names a coordinator is reached by. Without --dns and --ip: localhost, 127.0.0.1 and `::1`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    dns: Vec<String>,
    /// Addresses a coordinator is reached by.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// How long it holds.
    #[arg(long, default_value = "90d", value_parser = parse::duration, value_name = "DURATION")]
    valid_for: Duration,
    /// Directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// [`Role`] as an argument.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    /// A node agent.
    Agent,
    /// A person or program that runs captures.
    Operator,
    /// A person or program that only reads.
    Viewer,
    /// The coordinator.
    Coordinator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Agent => Self::Agent,
            RoleName::Operator => Self::Operator,
            RoleName::Viewer => Self::Viewer,
            RoleName::Coordinator => Self::Coordinator,
        }
    }
}

pub(super) fn run(command: &Command, context: &Context, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Init(init) => {
            let authority = Authority::init(&init.dir, &init.trust_domain)?;
            let uri = format!("spiffe://{}", authority.trust_domain);
            print(&uri, authority.not_after, &init.dir, context, out)
        }
        Command::Issue(issue) => run_issue(issue, context, out),
    }
}

fn run_issue(issue: &Issue, context: &Context, out: &mut dyn Write) -> Outcome {
    let authority = Authority::open(&issue.dir)?;
    let leaf = authority.issue(&Request {
        role: issue.role.into(),
        name: &issue.name,
        dns: &issue.dns,
        ip: &issue.ip,
        validity: Validity::from_now(issue.valid_for)?,
    })?;
    pki::store_identity(&issue.out, &authority, &leaf)?;
    print(&leaf.identity.to_string(), leaf.not_after, &issue.out, context, out)
}

/// Neither command is a call, so their answer has no message: the same three facts in each form.
fn print(
    uri: &str,
    not_after: time::OffsetDateTime,
    dir: &std::path::Path,
    context: &Context,
    out: &mut dyn Write,
) -> Outcome {
    let until = output::units::second(Some(&prost_types::Timestamp {
        seconds: not_after.unix_timestamp(),
        nanos: 0,
    }));
    let facts = json!({ "identity": uri, "notAfter": until, "directory": dir.to_string_lossy() });
    match context.global.output {
        Format::Table | Format::Wide if context.global.quiet => {}
        Format::Table | Format::Wide | Format::Junit => {
            writeln!(out, "{uri} until {until} in {}", dir.display())?;
        }
        Format::Json => writeln!(out, "{facts:#}")?,
        Format::Yaml => out.write_all(serde_yaml_ng::to_string(&facts)?.as_bytes())?,
        Format::Name => writeln!(out, "{uri}")?,
    }
    Ok(Exit::Done)
}
