//! A capture file, packet by packet, as the decoder sees it.

mod text;
mod view;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use lastseen_packet::observation::OverlayKind;
use lastseen_packet::{DecodeConfig, Decoded, TunnelPort};

use self::view::PacketView;
use crate::capture_file::{Item, Reader};
use crate::output::escape;

/// Form of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line for people.
    Text,
    /// A JSON object on a line.
    Json,
    /// A YAML document.
    Yaml,
}

/// The decoder's usual tunnel ports and these.
pub fn config(vxlan: &[u16], geneve: &[u16]) -> anyhow::Result<DecodeConfig> {
    let mut config = DecodeConfig::default();
    for (field, ports, kind) in
        [("vxlan-port", vxlan, OverlayKind::Vxlan), ("geneve-port", geneve, OverlayKind::Geneve)]
    {
        for &port in ports {
            ensure!(config.set(TunnelPort { port, kind }), "{field}: {port} is one port too many; 32 fit");
        }
    }
    Ok(config)
}

/// Writes every packet of `path` (`-`: standard input) to `out`. An error tells which packet could not be read; those
/// before it have been written.
pub fn show(path: &Path, config: &DecodeConfig, form: Form, out: &mut dyn Write) -> anyhow::Result<()> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let source: Box<dyn Read> = if is_stdin {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {name}"))?)
    };
    let mut out = io::BufWriter::new(out);
    let shown = Reader::open(source)
        .map_err(anyhow::Error::msg)
        .and_then(|reader| each(reader, config, form, &mut out));
    out.flush()?;
    match shown {
        Err(error) if error.downcast_ref::<io::Error>().is_some() => Err(error),
        Err(error) => bail!("{}: {error}", escape::line(&name)),
        Ok(()) => Ok(()),
    }
}

fn each(mut reader: Reader, config: &DecodeConfig, form: Form, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut number, mut decoded) = (0, Decoded::default());
    loop {
        number += 1;
        let view = match reader.next() {
            None => return Ok(()),
            Some(Err(reason)) => bail!("packet {number}: {reason}; what came before it is shown"),
            Some(Ok(Item::Frame(frame))) => PacketView::of(number, &frame, config, &mut decoded),
            Some(Ok(Item::Malformed(reason))) => PacketView::malformed(number, reason),
        };
        match form {
            Form::Text => writeln!(out, "{}", text::line(&view))?,
            Form::Json => writeln!(out, "{}", serde_json::to_string(&view)?)?,
            Form::Yaml => write!(out, "---\n{}", serde_yaml_ng::to_string(&view)?)?,
        }
    }
}
