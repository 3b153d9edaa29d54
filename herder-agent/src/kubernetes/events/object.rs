//! An Event as the API server takes it, whole or what changes of it, and its answer. Pure.

use super::correlate::Outgoing;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::json;

/// `source.component` and `reportingComponent`.
const COMPONENT: &str = "herder";

/// What changes of one that is counted up.
pub(super) fn patch(outgoing: &Outgoing) -> Vec<u8> {
    json!({
        "count": outgoing.count,
        "lastTimestamp": seconds(outgoing.last),
        "message": outgoing.message,
    })
    .to_string()
    .into_bytes()
}

/// A new one, emitted by the agent of this node.
pub(super) fn object(outgoing: &Outgoing, node: &str) -> Vec<u8> {
    let about = &outgoing.about;
    let mut involved = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "name": about.pod,
        "namespace": about.namespace,
        "uid": about.uid,
    });
    if let (Some(path), Some(involved)) = (about.field_path(), involved.as_object_mut()) {
        involved.insert("fieldPath".to_owned(), path.into());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": outgoing.name, "namespace": about.namespace },
        "involvedObject": involved,
        "reason": outgoing.reason.as_str(),
        "message": outgoing.message,
        "type": outgoing.reason.event_type(),
        "count": outgoing.count,
        "firstTimestamp": seconds(outgoing.first),
        "lastTimestamp": seconds(outgoing.last),
        "source": { "component": COMPONENT, "host": node },
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    })
    .to_string()
    .into_bytes()
}

/// The answer to both requests.
#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(rename = "kind", deserialize_with = "is_event")]
    _kind: (),
}

fn is_event<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let kind = String::deserialize(deserializer)?;
    if kind == "Event" {
        Ok(())
    } else {
        Err(D::Error::custom(format!("{kind:?} instead of an Event")))
    }
}

/// A time as `metav1.Time` has it: whole seconds, UTC.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
