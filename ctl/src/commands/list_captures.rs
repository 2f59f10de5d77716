//! `list-captures`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{Capture, ListCapturesRequest, ListCapturesResponse};

use super::listing::Limit;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, names, units};
use crate::rpc::{self, Fabric};

/// List captures, newest first.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-captures
  ctl list-captures --limit 5 -o wide
  ctl list-captures -o name | head -1")]
pub struct Arguments {
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let captures = arguments
        .limit
        .pages(async |page_size, page_token| {
            let request = rpc::request(ListCapturesRequest { page_size, page_token });
            let page =
                fabric.captures().list_captures(request).await.map_err(|status| fabric.failed(&status))?;
            let page = page.into_inner();
            Ok((page.captures, page.next_page_token))
        })
        .await?;
    output::print(&ListCapturesResponse { captures, next_page_token: String::new() }, context, out)?;
    Ok(Exit::Done)
}

impl View for ListCapturesResponse {
    fn text(&self, context: &Context) -> String {
        if self.captures.is_empty() {
            return "no captures; start one with `ctl start-capture --all-nodes`\n".to_owned();
        }
        let wide = context.global.output == Format::Wide;
        let mut headers = vec!["ID", "NAME", "STATE", "NODES", "CREATED", "DURATION", ">PACKETS", ">DROPS"];
        headers.extend(if wide { &["FILTER", "SAMPLE", "LABELS", "CREATED BY", "REASON"][..] } else { &[] });
        let mut table = Table::new(&headers);
        for capture in &self.captures {
            table.row(row(capture, wide));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.captures.iter().map(|capture| capture.id.clone()).collect()
    }
}

/// Names, of many only the first unless `wide`.
fn nodes(capture: &Capture, wide: bool) -> String {
    const NAMED: usize = 3;
    let shown = if wide { usize::MAX } else { NAMED };
    let names: Vec<&str> = capture.nodes.iter().take(shown).map(|node| node.node.as_str()).collect();
    match capture.nodes.len().checked_sub(shown) {
        Some(more @ 1..) => format!("{} and {more} more", names.join(",")),
        _ => names.join(","),
    }
}

fn row(capture: &Capture, wide: bool) -> Vec<String> {
    let spec = capture.spec.clone().unwrap_or_default();
    let packets = capture.nodes.iter().map(|node| node.packets).sum();
    let drops = capture.nodes.iter().map(|node| node.kernel_drops + node.agent_drops).sum();
    let mut cells = vec![
        capture.id.clone(),
        spec.name.clone(),
        names::capture_state(capture.state),
        nodes(capture, wide),
        units::second(capture.created_at.as_ref()),
        units::span(spec.duration.as_ref()),
        units::count(packets),
        units::count(drops),
    ];
    if wide {
        cells.push(spec.filter.clone());
        cells.push(spec.sampling_interval.map_or_else(String::new, |interval| format!("1/{interval}")));
        cells.push(super::show_capture::labels(&spec));
        cells.push(capture.created_by.clone());
        cells.push(capture.reason.clone());
    }
    cells
}
