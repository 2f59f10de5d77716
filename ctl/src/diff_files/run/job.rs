//! Nodes and points of the files, as a run takes them.

use lastseen_correlate::Job;
use lastseen_correlate::input::{CaptureState, Node, Point, Window};
use lastseen_correlate::topology::{Direction, InterfaceKind};

use super::super::tap::{KEY, Tap};
use super::{Evidence, ID};

impl Evidence {
    pub(super) fn job(&self, window: Window, guard_nanos: i64) -> anyhow::Result<Job> {
        let mut points = Vec::new();
        for tap in &self.taps {
            for &direction in &tap.directions {
                points.push(self.point(tap, direction)?);
            }
        }
        Ok(Job {
            capture_id: ID.to_owned(),
            name: String::new(),
            filter: String::new(),
            named_interfaces: true,
            partial: false,
            from_files: true,
            window,
            guard_nanos,
            key: KEY,
            nodes: (0..self.names.len()).map(|node| self.node_of_job(node)).collect(),
            points,
        })
    }

    fn point(&self, tap: &Tap, direction: Option<Direction>) -> anyhow::Result<Point> {
        let mut point = Point {
            node: self.node(&tap.named),
            netns: String::new(),
            interface: tap.named.interface.clone(),
            index: 0,
            direction,
            kind: InterfaceKind::Unspecified,
            mtu: 0,
            gso_known: false,
        };
        if let Some(fabric) = &self.fabric {
            let (_, interface) = fabric.interface(&tap.named)?;
            (point.index, point.kind, point.mtu) = (interface.index, interface.kind, interface.mtu);
            point.netns.clone_from(&interface.netns);
        }
        Ok(point)
    }

    pub(super) fn node_of_job(&self, node: usize) -> Node {
        let name = self.names[node].clone();
        let is_reference = Some(node) == self.ahead.iter().position(Option::is_some);
        Node {
            topology: self.fabric.as_ref().map(|fabric| fabric.tables(&name)).unwrap_or_default(),
            clock_offset_nanos: self.ahead[node],
            clock_error_nanos: self.clock_error(node, is_reference),
            state: CaptureState::Completed,
            is_bystander: false,
            translations: Vec::new(),
            reason: String::new(),
            coverage: self.coverage(node),
            name,
        }
    }

    /// Bound of the error of a clock as far as it is known before packets refine it.
    fn clock_error(&self, node: usize, is_reference: bool) -> Option<i64> {
        let step = self.steps[node].filter(|_| self.ahead[node].is_some());
        step.map(|step| step.nanos.abs()).or(is_reference.then_some(0))
    }
}
