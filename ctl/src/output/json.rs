//! Canonical proto3 JSON, driven by the descriptors that the services themselves are generated from.

use std::sync::LazyLock;

use anyhow::Context as _;
use lastseen_proto::v1;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Serialize;

use crate::output::escape;

static POOL: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(lastseen_proto::FILE_DESCRIPTOR_SET));

/// A message of `lastseen.v1` that a command can print.
pub trait Response: Message {
    /// Its name within the package.
    const NAME: &'static str;
}

macro_rules! responses {
    ($($name:ident),+ $(,)?) => {
        $(impl Response for v1::$name { const NAME: &'static str = stringify!($name); })+

        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

responses! {
    ListNodesResponse, GetNodeResponse, StartCaptureResponse, ListCapturesResponse, GetCaptureResponse,
    WatchCaptureResponse, StopCaptureResponse, DeleteCaptureResponse, DiffReport, ListFlowsResponse,
    ListLostPacketsResponse, FabricTopology, ListAuditResponse, RunProbeResponse, ListProbesResponse, GetProbeResponse, StopProbeResponse, TracePathResponse,
    ProbeDiff, CheckReport,
}

/// Indented JSON, fields with default values included.
pub fn pretty<R: Response>(response: &R) -> anyhow::Result<String> {
    Ok(escape::json(serde_json::to_string_pretty(&canonical(response)?)?))
}

/// JSON on one line.
pub fn compact<R: Response>(response: &R) -> anyhow::Result<String> {
    Ok(escape::json(serde_json::to_string(&canonical(response)?)?))
}

/// The same data as YAML.
pub fn yaml<R: Response>(response: &R) -> anyhow::Result<String> {
    Ok(serde_yaml_ng::to_string(&canonical(response)?)?)
}

/// Reads a message's canonical JSON. Fields it does not have are an error.
pub fn parse<R: Response + Default>(text: &str) -> anyhow::Result<R> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor::<R>()?, &mut reader)?;
    reader.end()?;
    Ok(message.transcode_to()?)
}

/// A message that serializes as canonical JSON does. Optional fields that are absent stay absent.
struct Canonical(DynamicMessage);

impl Serialize for Canonical {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new().skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

fn canonical<R: Response>(response: &R) -> anyhow::Result<Canonical> {
    let mut message = DynamicMessage::new(descriptor::<R>()?);
    message.transcode_from(response)?;
    Ok(Canonical(message))
}

fn descriptor<R: Response>() -> anyhow::Result<MessageDescriptor> {
    let pool = POOL.as_ref().context("descriptors of lastseen.v1")?;
    pool.get_message_by_name(&format!("lastseen.v1.{}", R::NAME))
        .with_context(|| format!("no descriptor of lastseen.v1.{}", R::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_has_a_descriptor() {
        let pool = POOL.as_ref().unwrap();
        for name in NAMES {
            assert!(pool.get_message_by_name(&format!("lastseen.v1.{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn defaults_show_and_absent_stays_absent() {
        let node = v1::Node { name: "node-a".into(), incarnation: u64::MAX, ..Default::default() };
        let json = compact(&v1::GetNodeResponse { node: Some(node) }).unwrap();
        assert!(json.contains(r#""incarnation":"18446744073709551615""#), "{json}");
        assert!(
            json.contains(r#""agentVersion":"""#) && json.contains(r#""state":"NODE_STATE_UNSPECIFIED""#)
        );
        assert!(!json.contains("clockOffsetNanos"), "{json}");
    }

    #[test]
    fn yaml_is_the_same_data() {
        let report = v1::DiffReport { capture_id: "c-1".into(), verdict: 2, ..Default::default() };
        let from_yaml: serde_json::Value = serde_yaml_ng::from_str(&yaml(&report).unwrap()).unwrap();
        let from_json: serde_json::Value = serde_json::from_str(&pretty(&report).unwrap()).unwrap();
        assert_eq!(from_yaml, from_json);
        assert_eq!(from_json["verdict"], "LOST");
    }
}
