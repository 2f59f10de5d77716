//! What `check-host` and `check-path` have in common.

pub mod host;
pub mod path;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use lastseen_proto::v1::check_result::Verdict;
use lastseen_proto::v1::check_spec::What;
use lastseen_proto::v1::{CheckReport, CheckRequest, CheckResponse, CheckSpec};
use uuid::Uuid;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, View};
use crate::rpc::Fabric;
use crate::{Outcome, check, parse, probe, steps};

/// What is looked at beyond the usual.
#[derive(Args, Debug)]
struct Options {
    /// Names that must have an IPv4 address.
    #[arg(long = "name", value_delimiter = ',', value_name = "NAME")]
    names: Vec<String>,
    /// Ask these name servers, and not those of each place.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS", requires = "names")]
    nameserver: Vec<String>,
    /// URLs that must answer without an error.
    #[arg(long = "endpoint", value_delimiter = ',', value_name = "URL")]
    endpoints: Vec<String>,
    /// URL of the API server, if it is not the one that the coordinator was told of.
    #[arg(long, value_name = "URL")]
    api_server: Option<String>,
    /// PEM file with the certificates to trust for the URLs given here.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Addresses or names outside that must answer; with a port by TCP, without one by ICMP.
    #[arg(long, value_delimiter = ',', value_name = "HOST[:PORT]")]
    external: Vec<String>,
}

/// Asks for it, prints the report, and says by the exit code how it is.
async fn run(what: What, options: Options, context: &Context, out: &mut dyn Write) -> Outcome {
    let Options { names, nameserver: nameservers, endpoints, api_server, ca, external } = options;
    let ca_pem = parse::authorities(ca.as_deref())?;
    let api_server = api_server.unwrap_or_default();
    let spec = CheckSpec { what: Some(what), names, endpoints, api_server, ca_pem, external, nameservers };
    let request = CheckRequest { spec: Some(spec), request_id: Uuid::new_v4().to_string() };
    let fabric = Fabric::connect(&context.global).await?;
    let interrupted = "probes end by themselves: `ctl list-probes`";
    let answer = steps::follow(&fabric, context, interrupted, step, || {
        let (mut client, request) = (fabric.probes(), request.clone());
        async move { client.check(request).await }
    })
    .await?;
    let report = answer.report.unwrap_or_default();
    output::print(&report, context, out)?;
    let has = |verdict| report.results.iter().any(|result| result.verdict() == verdict);
    Ok(match () {
        () if has(Verdict::Fail) => Exit::Loss,
        () if has(Verdict::Unknown) || has(Verdict::Unspecified) || report.results.is_empty() => Exit::Unsure,
        () => Exit::Done,
    })
}

impl View for CheckReport {
    fn text(&self, context: &Context) -> String {
        check::text(self, context)
    }

    /// Where something is not well.
    fn names(&self) -> Vec<String> {
        let failing = self.results.iter().filter(|result| result.verdict() == Verdict::Fail);
        let mut names: Vec<String> = failing.map(|result| probe::source(result.source.as_ref())).collect();
        names.dedup();
        names
    }
}

/// What is done, until the last answer.
fn step(answer: &CheckResponse) -> Option<&str> {
    answer.report.is_none().then_some(answer.step.as_str())
}
