//! Events and commands as rows, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::{Command, Fleet};
use crate::jobs::{Event, Left, Status};
use crate::model::{BatchKey, Capture, IdentityKey, Part, Spec, State};
use crate::store::cluster::MailRow;

/// An event that crosses the database.
#[derive(Debug, Serialize, Deserialize)]
enum Letter {
    Status(Status),
    Left(Vec<Left>),
    Unstored(String),
    Refused(BatchKey),
    Stop(String),
}

/// The row of an event of `capture`. None for events that only concern this process.
pub(crate) fn mail(capture: &str, event: &Event, fleet: &Fleet) -> Option<MailRow> {
    let (node, kind, subject, letter) = match event {
        Event::Status(node, status) => {
            (node.as_str(), "status", String::new(), Letter::Status(status.clone()))
        }
        Event::Left(node, left) => (node.as_str(), "left", String::new(), Letter::Left(left.clone())),
        Event::Unstored(reason) => ("", "unstored", String::new(), Letter::Unstored(reason.clone())),
        Event::Refused(key) => (key.node.as_str(), "refused", subject(key), Letter::Refused(key.clone())),
        Event::Stop(who, _) => ("", "stop", String::new(), Letter::Stop(who.clone())),
        Event::Fleet | Event::Postponed(_) | Event::Correlated(_) => return None,
    };
    Some(MailRow {
        capture: capture.to_owned(),
        node: node.to_owned(),
        kind: kind.to_owned(),
        subject,
        // What an earlier process left comes before its control stream has begun.
        connected_at_nanos: if kind == "left" { 0 } else { fleet.connected_at(node).unwrap_or_default() },
        content: json(&letter),
        attachment: attachment(event, fleet),
    })
}

fn subject(key: &BatchKey) -> String {
    let point = &key.point;
    format!(
        "{} {} {} {} {} {}",
        point.netns, point.interface, point.index, point.direction, key.incarnation, key.sequence
    )
}

/// What goes beside the text: the network that a node is armed on, and what it translated once it is done.
fn attachment(event: &Event, fleet: &Fleet) -> Option<bytes::Bytes> {
    let Event::Status(node, status) = event else { return None };
    match status.state {
        State::Armed => fleet.node(node, 0).map(|view| view.record.topology),
        _ => status.translations.clone(),
    }
}

/// The event of a row, and what is to be known of the node's network before it.
pub(crate) fn event(row: MailRow, fleet: &Fleet) -> Option<Event> {
    let letter = serde_json::from_str(&row.content).map_err(|error| {
        tracing::error!(capture = row.capture, kind = row.kind, %error, "mail of another version is left out");
    });
    Some(match letter.ok()? {
        Letter::Status(status) if status.state == State::Armed => {
            row.attachment.into_iter().for_each(|topology| fleet.network_elsewhere(&row.node, topology));
            Event::Status(row.node, status)
        }
        Letter::Status(status) => Event::Status(row.node, Status { translations: row.attachment, ..status }),
        Letter::Left(left) => Event::Left(row.node, left),
        Letter::Unstored(reason) => Event::Unstored(reason),
        Letter::Refused(key) => Event::Refused(key),
        Letter::Stop(who) => Event::Stop(who, tokio::sync::oneshot::channel().0),
    })
}

/// A command that crosses the database.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Get ready for a capture that is stored.
    Arm(String),
    /// Get ready for one that is not.
    Rehearse {
        capture: String,
        spec: Box<Spec>,
        key: [u8; 16],
        who: String,
    },
    Commit {
        capture: String,
        start_monotonic_nanos: i64,
        end_monotonic_nanos: i64,
        start_nanos: i64,
    },
    End {
        capture: String,
        end_monotonic_nanos: Option<i64>,
    },
}

/// The text of a command.
pub(crate) fn order(command: &Command, is_rehearsal: bool) -> String {
    json(&match command.clone() {
        Command::Arm(capture) if is_rehearsal => Order::Rehearse {
            capture: capture.id.clone(),
            spec: Box::new(capture.spec.clone()),
            key: capture.identity_key.0,
            who: capture.created_by.clone(),
        },
        Command::Arm(capture) => Order::Arm(capture.id.clone()),
        Command::Commit { capture, start_monotonic_nanos, end_monotonic_nanos, start_nanos } => {
            Order::Commit { capture, start_monotonic_nanos, end_monotonic_nanos, start_nanos }
        }
        Command::End { capture, end_monotonic_nanos } => Order::End { capture, end_monotonic_nanos },
    })
}

/// What a command came to.
pub(crate) enum Ordered {
    /// To be handed on.
    Command(Command),
    /// To be handed on once it is known that this capture is rehearsed elsewhere.
    Rehearsal(Arc<Capture>),
    /// To be handed on with the capture as it is stored.
    Arm(String),
}

impl Ordered {
    /// Id of the capture that it is about.
    pub(crate) fn capture(&self) -> &str {
        match self {
            Self::Arm(capture)
            | Self::Command(Command::Commit { capture, .. } | Command::End { capture, .. }) => capture,
            Self::Rehearsal(capture) | Self::Command(Command::Arm(capture)) => &capture.id,
        }
    }
}

/// The command of a text.
pub(crate) fn ordered(text: &str) -> Option<Ordered> {
    let order = serde_json::from_str(text)
        .map_err(|error| tracing::error!(%error, "a command of another version is left out"));
    Some(match order.ok()? {
        Order::Arm(capture) => Ordered::Arm(capture),
        Order::Rehearse { capture, spec, key, who } => {
            Ordered::Rehearsal(Arc::new(rehearsed(capture, *spec, IdentityKey(key), who)))
        }
        Order::Commit { capture, start_monotonic_nanos, end_monotonic_nanos, start_nanos } => {
            Ordered::Command(Command::Commit {
                capture,
                start_monotonic_nanos,
                end_monotonic_nanos,
                start_nanos,
            })
        }
        Order::End { capture, end_monotonic_nanos } => {
            Ordered::Command(Command::End { capture, end_monotonic_nanos })
        }
    })
}

fn rehearsed(id: String, spec: Spec, identity_key: IdentityKey, created_by: String) -> Capture {
    Capture {
        id,
        parts: spec.nodes.iter().map(|node| Part::new(node)).collect(),
        spec,
        state: State::Arming,
        reason: String::new(),
        created_at_nanos: 0,
        created_by,
        window: None,
        identity_key,
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("maps with string keys and numbers always serialise")
}

/// The last of each that replace each other.
pub(crate) fn latest(rows: impl IntoIterator<Item = MailRow>) -> Vec<MailRow> {
    let key =
        |row: MailRow| ((row.capture.clone(), row.node.clone(), row.kind.clone(), row.subject.clone()), row);
    rows.into_iter().map(key).collect::<BTreeMap<_, _>>().into_values().collect()
}
