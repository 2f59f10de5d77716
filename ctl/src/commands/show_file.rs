//! `show-file`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::show_file::{self, Form};

/// Show what the decoder sees in a capture file (pcap or pcapng), a line per packet.
///
/// A packet that cannot be decoded shows the layer, the offset and the reason. The identity is keyed with zeros, so
/// that the same packet has the same identity in every file.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tcpdump -i any -c 20 -w - | ctl show-file -
  ctl show-file eth0.pcap
  ctl show-file eth0.pcapng --vxlan-port 4798 -o json | jq -r .identity | sort | uniq -d")]
pub struct Arguments {
    /// The file; - is standard input.
    file: PathBuf,
    /// A UDP port that carries VXLAN, besides 4789 and 8472.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    vxlan_port: Vec<u16>,
    /// A UDP port that carries Geneve, besides 6081.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    geneve_port: Vec<u16>,
}

pub(super) fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let form = match context.global.output {
        Format::Table | Format::Wide | Format::Junit => Form::Text,
        Format::Json => Form::Json,
        Format::Yaml => Form::Yaml,
        Format::Name => bail!("output: packets have no names; use table, json or yaml"),
    };
    let config = show_file::config(&arguments.vxlan_port, &arguments.geneve_port)?;
    show_file::show(&arguments.file, &config, form, out)?;
    Ok(Exit::Done)
}
