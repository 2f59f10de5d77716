//! What nodes' connection tracking translated, as the correlator takes it.

use bytes::Bytes;
use lastseen_correlate::input::{Job, Translation};
use lastseen_proto::v1;
use prost::Message;

/// Adds what each node told. What cannot be used, and what the node did not keep, becomes a note of its coverage.
pub(super) fn add(job: &mut Job, told: &[(String, Bytes)]) {
    for (name, bytes) in told {
        let Some(node) = job.nodes.iter_mut().find(|node| node.name == *name && !node.is_bystander) else {
            continue;
        };
        match read(bytes) {
            Ok((translations, omitted)) => {
                node.translations = translations;
                if omitted > 0 {
                    node.coverage.push(format!(
                        "{omitted} older translated connections were not kept: their packets are recognised by \
                         what does not change"
                    ));
                }
            }
            Err(reason) => node.coverage.push(format!("its translations cannot be used: {reason}")),
        }
    }
}

fn read(bytes: &Bytes) -> Result<(Vec<Translation>, u64), String> {
    let message = v1::NodeTranslations::decode(bytes.clone()).map_err(|e| e.to_string())?;
    let connections = message.connections.iter().map(Translation::try_from);
    let translations = connections.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    Ok((translations, message.omitted))
}

#[cfg(test)]
mod tests {
    use lastseen_correlate::input::{Node, Window};
    use lastseen_packet::observation::FlowKey;
    use lastseen_proto::convert;

    use super::*;

    fn job() -> Job {
        Job {
            capture_id: String::new(),
            name: String::new(),
            filter: String::new(),
            named_interfaces: false,
            partial: false,
            from_files: false,
            window: Window::default(),
            guard_nanos: 0,
            key: lastseen_packet::IdentityKey([0; 16]),
            nodes: vec![Node { name: "node-a".into(), ..Node::default() }],
            points: Vec::new(),
        }
    }

    #[test]
    fn a_node_s_translations_reach_the_run_and_what_is_missing_is_said() {
        let mut job = job();
        let connection = convert::translated_connection(&FlowKey::UNSPECIFIED, &FlowKey::UNSPECIFIED);
        let told = v1::NodeTranslations { connections: vec![connection; 2], omitted: 7 };
        add(&mut job, &[("node-a".into(), told.encode_to_vec().into()), ("gone".into(), Bytes::new())]);
        assert_eq!(job.nodes[0].translations.len(), 2);
        assert!(job.nodes[0].coverage[0].starts_with("7 older translated connections"));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_used() {
        let mut job = job();
        let empty = v1::TranslatedConnection::default();
        let told = v1::NodeTranslations { connections: vec![empty], omitted: 0 };
        add(&mut job, &[("node-a".into(), told.encode_to_vec().into())]);
        add(&mut job, &[("node-a".into(), Bytes::from_static(b"\xff"))]);
        assert!(job.nodes[0].translations.is_empty());
        assert!(job.nodes[0].coverage.iter().all(|note| note.starts_with("its translations cannot be used")));
        assert_eq!(job.nodes[0].coverage.len(), 2);
    }
}
