//! The job that the flags of `start-capture` ask for. What can be seen to be wrong without asking anyone is refused here.

use std::collections::HashSet;

use anyhow::ensure;
use lastseen_proto::v1::CaptureSpec;

use super::Arguments;
use crate::parse;

/// Bytes that a capture's name, and each part of a label, may have.
const LONGEST_TEXT: usize = 63;

/// Characters of a text that is too long which the error repeats.
const SHOWN_TEXT: usize = 20;

/// The job, or the first mistake.
pub(super) fn spec(arguments: Arguments) -> anyhow::Result<CaptureSpec> {
    unique("nodes", &arguments.nodes)?;
    short("name", &arguments.name)?;
    for text in arguments.label.iter().flat_map(|(key, value)| [key, value]) {
        short("label", text)?;
    }
    let start_in = arguments.start_in.map(parse::from_now).transpose();
    let start_in = start_in.map_err(|reason| anyhow::anyhow!("start-in: {reason}"))?;
    Ok(CaptureSpec {
        name: arguments.name,
        labels: arguments.label.into_iter().collect(),
        all_nodes: arguments.all_nodes,
        nodes: arguments.nodes,
        filter: arguments.filter.unwrap_or_default(),
        interfaces: interfaces(arguments.interfaces)?,
        duration: arguments.duration.map(parse::proto_duration),
        max_packets: arguments.max_packets,
        max_bytes: arguments.max_bytes,
        snap_length: arguments.snaplen,
        start_at: arguments.start_at.or(start_in).map(parse::proto_timestamp),
        sampling_interval: arguments.sample,
    })
}

/// Interface names; none means `auto`.
fn interfaces(names: Vec<String>) -> anyhow::Result<Vec<String>> {
    ensure!(
        !names.iter().any(|name| name == "any"),
        "interfaces: \"any\" sees one packet many times; name interfaces, or leave it out for auto"
    );
    if names == ["auto"] {
        return Ok(Vec::new());
    }
    ensure!(
        !names.iter().any(|name| name == "auto"),
        "interfaces: \"auto\" stands alone; leave out the other names, or auto"
    );
    unique("interfaces", &names)?;
    Ok(names)
}

fn unique(field: &str, names: &[String]) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        ensure!(!name.is_empty(), "{field}: an empty name; look for a stray comma");
        ensure!(seen.insert(name), "{field}: {name:?} is named twice; leave one out");
    }
    Ok(())
}

fn short(field: &str, text: &str) -> anyhow::Result<()> {
    let length = text.len();
    let shown: String = text.chars().take(SHOWN_TEXT).collect();
    ensure!(length <= LONGEST_TEXT, "{field}: {shown:?}… has {length} bytes; give at most {LONGEST_TEXT}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lastseen_runtime::usage;

    use super::*;
    use crate::commands::Command;

    fn parsed(line: &str) -> anyhow::Result<CaptureSpec> {
        let args =
            ["ctl", "start-capture"].into_iter().chain(line.split_whitespace()).map(Into::into).collect();
        let cli = crate::cli::resolve(args).map_err(|error| anyhow::anyhow!(usage::line(&error)))?;
        match cli.command {
            Command::StartCapture(arguments) => spec(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_job() {
        let spec = parsed(
            "--nodes a,b --filter tcp --interfaces eth0,cni0 --duration 1m30s --max-packets 5 --max-bytes 64MiB \
             --start-at 2026-03-01T14:03:20.5Z --snaplen 256 --name n --label k=v --label team=net \
             --sample 1/8",
        )
        .unwrap();
        let shown = crate::commands::show_capture::job(&spec);
        assert!(shown.contains(&("sample", "1/8".to_owned())), "a dry run shows it: {shown:?}");
        assert_eq!(
            (spec.nodes, spec.all_nodes, spec.filter),
            (vec!["a".into(), "b".into()], false, "tcp".into())
        );
        assert_eq!(spec.interfaces, ["eth0", "cni0"]);
        assert_eq!(spec.duration, Some(prost_types::Duration { seconds: 90, nanos: 0 }));
        assert_eq!(
            (spec.max_packets, spec.max_bytes, spec.snap_length),
            (Some(5), Some(64 << 20), Some(256))
        );
        assert_eq!(spec.sampling_interval, Some(8));
        let start = prost_types::Timestamp { seconds: 1_772_373_800, nanos: 500_000_000 };
        assert_eq!((spec.start_at, spec.name, spec.labels.len()), (Some(start), "n".into(), 2));
    }

    #[test]
    fn nothing_but_the_place_is_needed() {
        let spec = parsed("--all-nodes").unwrap();
        assert_eq!(spec, CaptureSpec { all_nodes: true, ..Default::default() });
    }

    #[test]
    fn start_in_counts_from_now() {
        let before = Timestamp::now().as_second();
        let start = parsed("--all-nodes --start-in 1h").unwrap().start_at.unwrap();
        let after = Timestamp::now().as_second();
        assert!((before + 3_600..=after + 3_600).contains(&start.seconds), "{start:?} {before}");
    }

    #[test]
    fn mistakes_name_the_field_and_the_way_out() {
        for (line, expected) in [
            ("", "--all-nodes or --nodes <NODE>: missing; see `ctl start-capture --help`"),
            ("--all-nodes --nodes a", "--all-nodes: does not go with --nodes; leave one out"),
            ("--nodes a,b,a", "nodes: \"a\" is named twice; leave one out"),
            ("--nodes a,,b", "nodes: an empty name; look for a stray comma"),
            (
                "--all-nodes --duration 0s",
                "--duration: \"0s\" is not longer than 0; give, for example, 30s or 5m",
            ),
            (
                "--all-nodes --duration -1s",
                "--duration: \"-1s\" is not longer than 0; give, for example, 30s or 5m",
            ),
            (
                "--all-nodes --duration 30",
                "--duration: \"30\" is not a duration; give a number with a unit, for example 30s or 5m",
            ),
            ("--all-nodes --snaplen 10", "--snaplen: \"10\" is not a whole number from 64 to 65535"),
            ("--all-nodes --snaplen x", "--snaplen: \"x\" is not a whole number from 64 to 65535"),
            (
                "--all-nodes --max-packets -5",
                "--max-packets: \"-5\" is not a whole number above 0; give, for example, 100",
            ),
            (
                "--all-nodes --max-bytes -5",
                "--max-bytes: \"-5\" is not a number of bytes; give, for example, 1000000, 64MiB or 2GB",
            ),
            (
                "--all-nodes --sample 2/3",
                "--sample: \"2/3\" is not 1/N with a whole number N above 0; give, for example, 1/100",
            ),
            (
                "--all-nodes --interfaces any",
                "interfaces: \"any\" sees one packet many times; name interfaces, or leave it out for auto",
            ),
            (
                "--all-nodes --interfaces auto,eth0",
                "interfaces: \"auto\" stands alone; leave out the other names, or auto",
            ),
            (
                "--all-nodes --start-at yesterday",
                "--start-at: \"yesterday\" is not a time; give RFC 3339 with an offset, for example \
                 2026-03-01T14:03:20Z",
            ),
            (
                "--all-nodes --start-in 1s --start-at 2026-03-01T14:03:20Z",
                "--start-in: does not go with --start-at; leave one out",
            ),
            ("--all-nodes --label x", "--label: \"x\" is not KEY=VALUE; give, for example, team=network"),
            ("--all-nodes --zap 1/2", "--zap: there is no such flag; see `ctl start-capture --help`"),
            ("--all-node", "--all-node: there is no such flag; did you mean --all-nodes?"),
        ] {
            assert_eq!(parsed(line).expect_err(line).to_string(), expected);
        }
        let long = format!("--all-nodes --name {}", "x".repeat(5_000));
        let refused = parsed(&long).unwrap_err().to_string();
        assert_eq!(refused, format!("name: {:?}… has 5000 bytes; give at most 63", "x".repeat(20)));
        let refused = parsed("--all-nodes --filter=").unwrap_err().to_string();
        assert_eq!(refused, "--filter: \"\" is empty; leave the flag out to capture everything");
    }
}
