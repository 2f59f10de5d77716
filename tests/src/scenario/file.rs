//! Scenario files: one TOML file per scenario, named by a sentence.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::fault::{Fault, Side};
use crate::lab::node::{BRIDGE, NIC, OVERLAY, SECOND_BRIDGE, SECOND_NIC, SECOND_OVERLAY};
use crate::lab::plan::{Family, NodePlan};
use crate::probed::{self, Words};
use crate::traced;
use crate::traced::plan::Traced;
use crate::traffic::sink::Reader;
use crate::traffic::udp::{Identity, SMALLEST};

/// One scenario as its file states it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A sentence that says what happens.
    pub name: String,
    /// Where super-frames are cut.
    #[serde(default)]
    pub segmentation: Segmentation,
    /// What goes wrong.
    pub fault: Fault,
    /// What goes wrong beside it, on another leg.
    pub second: Option<Second>,
    /// Whose packets are captured; absent: see `filter`.
    pub filter_on: Option<Watched>,
    /// What the pods speak.
    #[serde(default)]
    pub family: Family,
    /// What the sender's pod sends to the receiver's.
    pub traffic: Traffic,
    /// Ring memory of the receiver's agent in bytes; absent: the agent's default.
    pub ring_bytes: Option<u32>,
    /// How the agents capture; absent: as they choose.
    pub backend: Option<Backend>,
    /// Length of the window; absent: the usual.
    pub window_seconds: Option<u32>,
    /// What is captured, as a pcap-filter(7) expression; absent: everything.
    pub filter: Option<String>,
    /// One in this many segments is recorded; absent: all.
    pub sample: Option<u32>,
    /// What the report must say.
    pub expect: Expect,
    /// How `trace-path` goes through the fault; absent: it does not.
    pub trace: Option<Traced>,
    /// What probes through the fault find that is not as where nothing is wrong, by kind; absent: none is sent.
    pub probes: Option<Words>,
}

/// How an agent captures, where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// By libpcap, which does not tell the segment size of super-packets.
    Pcap,
}

/// The addresses that a capture's filter names, beside that of the third node's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    /// The sender's pod.
    Sender,
    /// The service.
    Service,
}

/// A further fault and the leg on which it loses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// What goes wrong.
    pub fault: Fault,
    /// Where.
    pub leg: Leg,
}

/// Where super-frames are cut into segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segmentation {
    /// Never: they cross the underlay whole, as with a capable NIC.
    #[default]
    Offloaded,
    /// By the kernel in front of each node's `eth0`.
    Software,
    /// By the underlay, and merged again as they come in by each node's `eth0`.
    Merged,
}

/// Bounds from which the seed chooses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Smallest and largest UDP payload in bytes; both sizes occur.
    pub udp_bytes: [usize; 2],
    /// Smallest and largest rate of datagrams per second.
    pub udp_per_second: [u32; 2],
    /// Smallest and largest size of a bulk transfer over TCP in bytes; absent: none.
    pub tcp_bulk_bytes: Option<[u32; 2]>,
    /// Number of small TCP requests.
    #[serde(default)]
    pub tcp_requests: u32,
    /// TTL of the datagrams; absent: the kernel's default.
    pub udp_ttl: Option<u32>,
    /// What tells the datagrams from one another.
    #[serde(default)]
    pub udp_identity: Identity,
    /// Flows of datagrams, one after the other; absent: one.
    pub udp_flows: Option<u16>,
    /// Datagrams that leave the pod as one super-frame; absent: one.
    pub udp_segments: Option<u16>,
    /// Datagrams in all, whatever the rate; absent: as many as fit the window.
    pub udp_count: Option<u64>,
    /// When it is sent.
    #[serde(default)]
    pub span: Span,
    /// How the receiver reads its datagrams.
    #[serde(default)]
    pub reader: Reader,
}

/// When traffic is sent, seen from the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Inside, with room at both ends.
    #[default]
    Inside,
    /// For a moment in its middle.
    Brief,
    /// From before its start until after its end.
    Across,
}

/// What the report must say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `DELIVERED`, `LOST` or `INCONCLUSIVE`.
    pub verdict: Verdict,
    /// The leg on which the fault loses what it counts; absent when it loses nothing. Where the verdict is
    /// `INCONCLUSIVE` the report may not name it.
    pub leg: Option<Leg>,
    /// Least and most share of the datagrams that must be `not_observable`, in percent. Those that were lost among them
    /// cannot be called lost. Absent: none may be, unless the verdict is `INCONCLUSIVE`.
    pub not_observable_percent: Option<[f64; 2]>,
    /// Least and most time that datagrams take between the nodes, in milliseconds; absent: not asked.
    pub delay_millis: Option<[i64; 2]>,
    /// What the generators miss vanished in the receiving pod, behind the last point there is.
    #[serde(default)]
    pub lost_in_pod: bool,
    /// What the fault strikes vanishes before the first point there is.
    #[serde(default)]
    pub out_of_sight: bool,
    /// The points that see what arrives of the stream into the fault, in order; absent: not asked.
    pub route: Option<Vec<Point>>,
    /// The same of the answers to the TCP connections beside it.
    pub return_route: Option<Vec<Point>>,
    /// The filter hides the packets from points beyond a translation.
    #[serde(default)]
    pub hidden: bool,
}

/// Verdict on a capture, spelt as in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Nothing lost.
    Delivered,
    /// Something lost.
    Lost,
    /// Could not tell.
    Inconclusive,
}

impl Verdict {
    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "DELIVERED",
            Self::Lost => "LOST",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }

    /// Exit code of `ctl diff-nodes`.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Delivered => 0,
            Self::Lost => 1,
            Self::Inconclusive => 3,
        }
    }
}

/// Two neighbouring points in lab terms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// Last point that saw the packets.
    pub from: Point,
    /// First point that should have.
    pub to: Point,
}

/// An observation point in lab terms: `sender.nic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Point {
    /// Which node.
    pub side: Side,
    /// Which of its interfaces.
    pub place: Place,
}

/// An interface by its role on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Host side of the pod's veth pair.
    Veth,
    /// The bridge.
    Bridge,
    /// The VXLAN device.
    Overlay,
    /// The underlay interface.
    Nic,
    /// Host side of the second pod's veth pair.
    Neighbor,
    /// The second overlay's bridge.
    SecondBridge,
    /// The second VXLAN device.
    SecondOverlay,
    /// The second underlay interface.
    SecondNic,
}

impl Place {
    /// All of them, as scenario files spell them.
    pub const WORDS: [(Self, &'static str); 8] = [
        (Self::Veth, "veth"),
        (Self::Bridge, "bridge"),
        (Self::Overlay, "overlay"),
        (Self::Nic, "nic"),
        (Self::Neighbor, "neighbor"),
        (Self::SecondBridge, "bridge2"),
        (Self::SecondOverlay, "overlay2"),
        (Self::SecondNic, "nic2"),
    ];

    /// The interface's name on a node.
    pub fn interface(self, node: &NodePlan) -> &str {
        match self {
            Self::Veth => &node.veth,
            Self::Neighbor => &node.neighbor.veth,
            Self::Bridge => BRIDGE,
            Self::Overlay => OVERLAY,
            Self::Nic => NIC,
            Self::SecondBridge => SECOND_BRIDGE,
            Self::SecondOverlay => SECOND_OVERLAY,
            Self::SecondNic => SECOND_NIC,
        }
    }
}

impl TryFrom<String> for Point {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unknown = || {
            format!("{text:?} is not sender|receiver.veth|bridge|overlay|nic|neighbor|bridge2|overlay2|nic2")
        };
        let (side, place) = text.split_once('.').ok_or_else(unknown)?;
        let side = match side {
            "sender" => Side::Sender,
            "receiver" => Side::Receiver,
            _ => return Err(unknown()),
        };
        let known = Place::WORDS.iter().find(|(_, word)| *word == place);
        let place = known.map(|(place, _)| *place).ok_or_else(unknown)?;
        Ok(Self { side, place })
    }
}

/// Whether a name contains one of these, letter case aside; with none, every name is selected.
pub fn selected(name: &str, only: &[impl AsRef<str>]) -> bool {
    let name = name.to_lowercase();
    only.is_empty() || only.iter().any(|text| name.contains(&text.as_ref().to_lowercase()))
}

/// The folder of the scenario files in this repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Reads every `.toml` file in `folder`, in the order of their file names.
pub fn load(folder: &Path) -> Result<Vec<Scenario>> {
    let listed = fs::read_dir(folder).with_context(|| format!("read scenarios in {}", folder.display()))?;
    let mut files: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files.iter().map(|path| read(path)).collect()
}

/// Reads one scenario file.
pub fn read(path: &Path) -> Result<Scenario> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let scenario: Scenario = toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    scenario.validate().with_context(|| format!("scenario {}", path.display()))?;
    Ok(scenario)
}

impl Scenario {
    fn validate(&self) -> Result<()> {
        let Traffic { udp_bytes: [small, large], udp_per_second: [slow, fast], .. } = self.traffic;
        if small < SMALLEST || small > large {
            bail!("traffic.udp_bytes = [{small}, {large}]: give two ascending sizes of at least {SMALLEST}");
        }
        if slow == 0 || slow > fast {
            bail!("traffic.udp_per_second = [{slow}, {fast}]: give two ascending rates above 0");
        }
        let Expect { verdict, not_observable_percent, .. } = &self.expect;
        let is_lossy = *verdict == Verdict::Lost;
        let is_untold = *verdict == Verdict::Inconclusive && not_observable_percent.is_some();
        if self.legs().any(|leg| leg.is_some()) != is_lossy && !is_untold {
            bail!("a leg belongs to expect.verdict LOST, or INCONCLUSIVE with expect.not_observable_percent");
        }
        traced::validate(self)?;
        probed::validate(self)
    }

    /// Everything that goes wrong.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        [&self.fault].into_iter().chain(self.second.iter().map(|second| &second.fault))
    }

    /// The leg on which each of [`Scenario::faults`] loses, absent where it loses nothing.
    pub fn legs(&self) -> impl Iterator<Item = Option<&Leg>> {
        [self.expect.leg.as_ref()].into_iter().chain(self.second.iter().map(|second| Some(&second.leg)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{folder, load, selected};

    #[test]
    fn a_name_is_selected_by_any_of_the_texts_and_by_none() {
        let name = "The receiver's Agent is late";
        assert!(selected(name, &["nothing", "agent IS"]) && selected(name, &[""; 0]));
        assert!(!selected(name, &["nothing", "agents"]));
    }

    #[test]
    fn every_scenario_file_parses_and_names_are_sentences_of_their_own() {
        let scenarios = load(&folder()).expect("scenario files");
        assert!(scenarios.len() >= 10, "only {} scenarios", scenarios.len());
        let names: HashSet<_> = scenarios.iter().map(|scenario| &scenario.name).collect();
        assert_eq!(names.len(), scenarios.len(), "two scenarios share a name");
        assert!(names.iter().all(|name| name.contains(' ')), "{names:?}");
    }
}
