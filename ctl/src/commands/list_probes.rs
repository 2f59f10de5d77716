//! `list-probes`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{ListProbesRequest, ListProbesResponse, Probe};

use super::listing::Limit;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, names, units};
use crate::probe;
use crate::rpc::{self, Fabric};

/// List probes, newest first.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-probes
  ctl list-probes --limit 5 -o wide
  ctl list-probes -o name | head -1")]
pub struct Arguments {
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let probes = arguments
        .limit
        .pages(async |page_size, page_token| {
            let request = rpc::request(ListProbesRequest { page_size, page_token });
            let page = fabric.probes().list_probes(request).await.map_err(|status| fabric.failed(&status))?;
            let page = page.into_inner();
            Ok((page.probes, page.next_page_token))
        })
        .await?;
    output::print(&ListProbesResponse { probes, next_page_token: String::new() }, context, out)?;
    Ok(Exit::Done)
}

impl View for ListProbesResponse {
    fn text(&self, context: &Context) -> String {
        if self.probes.is_empty() {
            return "no probes; run one with `ctl run-probe icmp ADDRESS --all-nodes`\n".to_owned();
        }
        let is_wide = context.global.output == Format::Wide;
        let mut headers =
            vec!["ID", "NAME", "STATE", "KIND", ">SOURCES", "TARGETS", "CREATED", "EVERY", ">RUNS"];
        headers.extend(if is_wide { &["CREATED BY", "STOPPED BY"][..] } else { &[] });
        let mut table = Table::new(&headers);
        for probe in &self.probes {
            table.row(row(probe, is_wide));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.probes.iter().map(|probe| probe.id.clone()).collect()
    }
}

fn row(probe: &Probe, is_wide: bool) -> Vec<String> {
    const NAMED: usize = 3;
    let spec = probe.spec.clone().unwrap_or_default();
    let shown = if is_wide { spec.targets.len() } else { NAMED };
    let mut targets = spec.targets.iter().take(shown).cloned().collect::<Vec<_>>().join(",");
    if spec.mesh.is_some() {
        targets.push_str("each other");
    }
    if spec.targets.len() > shown {
        targets.push_str(&format!(" and {} more", spec.targets.len() - shown));
    }
    let mut cells = vec![
        probe.id.clone(),
        spec.name.clone(),
        names::probe_state(probe.state),
        probe::kind(&spec),
        units::count(probe.parts.len() as u64),
        targets,
        units::second(probe.created_at.as_ref()),
        units::span(spec.every.as_ref()),
        units::count(probe.parts.iter().map(|part| part.runs).max().unwrap_or_default()),
    ];
    if is_wide {
        cells.push(probe.created_by.clone());
        cells.push(probe.stopped_by.clone());
    }
    cells
}
