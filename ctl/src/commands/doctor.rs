//! `doctor`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use crate::Outcome;
use crate::context::Context;
use crate::doctor::{self, Check, Status};
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{Format, escape};

/// Check credentials, coordinator and nodes, and print the next step for each failure.
///
/// Exits with 0 if nothing failed (warnings do not count), with 2 otherwise.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl doctor
  ctl doctor -o json | jq '.checks[] | select(.status != \"PASS\")'")]
pub struct Arguments {}

pub(super) async fn run(context: &Context, out: &mut dyn Write) -> Outcome {
    let checks = doctor::examine(&context.global).await;
    let document = json!({ "checks": checks });
    match context.global.output {
        Format::Table | Format::Wide | Format::Junit => out.write_all(text(&checks).as_bytes())?,
        Format::Json => writeln!(out, "{}", escape::json(serde_json::to_string_pretty(&document)?))?,
        Format::Yaml => out.write_all(serde_yaml_ng::to_string(&document)?.as_bytes())?,
        Format::Name => {
            for check in checks.iter().filter(|check| check.status != Status::Pass) {
                writeln!(out, "{}", escape::line(&check.name))?;
            }
        }
    }
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn text(checks: &[Check]) -> String {
    let mut table = Table::new(&["STATUS", "CHECK", "FOUND"]);
    for check in checks {
        let status = match check.status {
            Status::Pass => "pass",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        table.row([status, &check.name, &check.detail]);
    }
    let mut text = table.text();
    let troubles: Vec<&Check> = checks.iter().filter(|check| !check.next_step.is_empty()).collect();
    if !troubles.is_empty() {
        text += "\nnext steps\n";
    }
    for check in troubles {
        text += &format!("  {}: {}\n", escape::line(&check.name), escape::line(&check.next_step));
    }
    text
}
