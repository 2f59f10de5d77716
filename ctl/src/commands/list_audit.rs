//! `list-audit`.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use lastseen_proto::v1::{AuditRecord, ListAuditRequest, ListAuditResponse};

use super::listing::Limit;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, names, units};
use crate::rpc::{self, Fabric};
use crate::{Outcome, parse};

/// Records shown unless told otherwise: a screen.
const SHOWN: u32 = 100;

/// List who did what, newest first: captures, downloads, and what was refused. Only for operators.
///
/// A download or a refusal that is repeated is recorded once a minute. Shows 100 records unless --limit or --since is given.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-audit
  ctl list-audit --since 1h --who alice
  ctl list-audit --since 2026-03-01T00:00:00Z -o json | jq '.records[] | select(.outcome == \"REFUSED\")'")]
pub struct Arguments {
    /// Only what was done from then on: a time, or how long ago.
    #[arg(long, value_name = "RFC3339|DURATION", value_parser = parse::since)]
    since: Option<Timestamp>,
    /// Only what this identity did: its name, or the whole of it.
    #[arg(long, value_name = "NAME|URI", default_value = "", hide_default_value = true)]
    who: String,
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let since = arguments
        .since
        .map(|since| prost_types::Timestamp { seconds: since.as_second(), nanos: since.subsec_nanosecond() });
    let limit = if since.is_none() { arguments.limit.or(SHOWN) } else { arguments.limit };
    let records = limit
        .pages(async |page_size, page_token| {
            let who = arguments.who.clone();
            let request = rpc::request(ListAuditRequest { page_size, page_token, since, who });
            let page = fabric.audit().list_audit(request).await.map_err(|status| fabric.failed(&status))?;
            let page = page.into_inner();
            Ok((page.records, page.next_page_token))
        })
        .await?;
    output::print(&ListAuditResponse { records, next_page_token: String::new() }, context, out)?;
    Ok(Exit::Done)
}

impl View for ListAuditResponse {
    fn text(&self, context: &Context) -> String {
        if self.records.is_empty() {
            return "nothing is on record\n".to_owned();
        }
        let wide = context.global.output == Format::Wide;
        let mut headers = vec!["TIME", "WHO", "ACTION", "SUBJECT", "OUTCOME"];
        headers.extend(if wide { &["PEER", "DETAIL"][..] } else { &[] });
        let mut table = Table::new(&headers);
        for record in &self.records {
            table.row(row(record, wide));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.records.iter().map(|record| record.id.to_string()).collect()
    }
}

fn row(record: &AuditRecord, wide: bool) -> Vec<String> {
    let mut cells = vec![
        units::second(record.at.as_ref()),
        record.who.clone(),
        record.action.clone(),
        record.subject.clone(),
        names::audit_outcome(record.outcome),
    ];
    if wide {
        cells.extend([record.peer.clone(), record.detail.clone()]);
    }
    cells
}
