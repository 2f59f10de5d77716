//! `NAME=FILE`: what a capture file was taken at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use lastseen_correlate::topology::Direction;

/// A capture file and its observation point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Node name.
    pub(crate) node: String,
    /// Interface name.
    pub(crate) interface: String,
    /// Direction, where the name says so.
    pub(crate) direction: Option<Direction>,
    /// The file.
    pub(crate) file: PathBuf,
}

impl Named {
    /// As the user wrote it, without the file.
    pub(super) fn name(&self) -> String {
        let direction = match self.direction {
            Some(Direction::In) => "/in",
            Some(Direction::Out) => "/out",
            None => "",
        };
        format!("{}/{}{direction}", self.node, self.interface)
    }
}

/// A value of the command line: `node-a/eth0=a.pcap`, `node-a/eth0/in=a.pcap`.
pub(crate) fn parse(text: &str) -> Result<Named, String> {
    let refused =
        || "is not NODE/INTERFACE[/in|out]=FILE; give, for example, node-a/eth0=eth0.pcap".to_owned();
    let (name, file) = text.split_once('=').ok_or_else(refused)?;
    let mut parts = name.split('/');
    let (Some(node), Some(interface)) = (parts.next(), parts.next()) else { return Err(refused()) };
    let direction = match parts.next() {
        None => None,
        Some("in") => Some(Direction::In),
        Some("out") => Some(Direction::Out),
        Some(_) => return Err(refused()),
    };
    let is_name = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    if parts.next().is_some() || !is_name(node) || !is_name(interface) || file.is_empty() {
        return Err(refused());
    }
    Ok(Named { node: node.to_owned(), interface: interface.to_owned(), direction, file: file.into() })
}

/// Each point once, each file once.
pub(super) fn check(all: &[Named]) -> anyhow::Result<()> {
    let mut files: BTreeMap<PathBuf, &Named> = BTreeMap::new();
    for (at, named) in all.iter().enumerate() {
        let is_same = |other: &&Named| {
            (&other.node, &other.interface) == (&named.node, &named.interface)
                && (other.direction.is_none()
                    || named.direction.is_none()
                    || other.direction == named.direction)
        };
        if let Some(other) = all[..at].iter().find(is_same) {
            bail!(
                "{}: given twice, as {} and {}; join files of one point with mergecap",
                named.name(),
                other.file.display(),
                named.file.display()
            );
        }
        let real = real_path(&named.file)?;
        if let Some(other) = files.insert(real, named) {
            bail!(
                "{}: given as {} and as {}; name it once",
                named.file.display(),
                other.name(),
                named.name()
            );
        }
    }
    Ok(())
}

fn real_path(file: &Path) -> anyhow::Result<PathBuf> {
    let shown = file.display();
    let not_regular = "is not a regular file: save it first; diff-files reads files twice";
    ensure!(file.as_os_str() != "-", "{shown}: {not_regular}");
    let refused = |e| anyhow::anyhow!("cannot open {shown}: {e}");
    let kind = file.metadata().map_err(refused)?;
    ensure!(!kind.is_dir(), "{shown}: is a directory, not a capture file");
    ensure!(kind.is_file(), "{shown}: {not_regular}");
    file.canonicalize().map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_node_an_interface_and_sometimes_a_direction() {
        let named = parse("node-a/eth0/in=dir/a=b.pcap").unwrap();
        assert_eq!((named.node.as_str(), named.interface.as_str()), ("node-a", "eth0"));
        assert_eq!((named.direction, named.file), (Some(Direction::In), PathBuf::from("dir/a=b.pcap")));
        assert_eq!(parse("n/flannel.1=x").unwrap().direction, None);
        for bad in [
            "",
            "a.pcap",
            "eth0=a.pcap",
            "n/=a",
            "/e=a",
            "n/e=",
            "n/e/up=a",
            "n/e/in/x=a",
            "n/e f=a",
            "n/e\n=a",
        ] {
            assert!(parse(bad).unwrap_err().contains("NODE/INTERFACE"), "{bad}");
        }
    }
}
