//! The API server's answers about pods: a list, or the lines of a watch. Each pod is
//! trimmed while it is read, so that not even one page of the list is ever in memory
//! as whole objects.

use herder_model::pods::{Pod, wire::PodObject};
use kube::core::WatchEvent;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Ends the list in a stream.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

#[derive(Deserialize)]
pub(super) struct PodList {
    #[serde(rename = "kind", deserialize_with = "is_list")]
    _kind: (),
    pub(super) metadata: ListMeta,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) items: Vec<WatchedPod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    /// Where a watch takes up.
    pub(super) resource_version: String,
    /// What asks for the next page.
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
}

/// A pod of a list or watch.
pub(super) struct WatchedPod {
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Option<Box<str>>,
    pub(super) version: Option<String>,
    /// None if it has no usable uid.
    pub(super) pod: Option<Box<Pod>>,
}

/// A line of a watch.
pub(super) enum Line {
    Applied(WatchedPod),
    Deleted(WatchedPod),
    /// So far the watch has come; with whether the list in it ends here.
    Bookmark(String, bool),
    /// The server cannot go on.
    Error {
        code: u16,
        message: String,
    },
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WatchEvent::deserialize(deserializer)? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => Line::Applied(pod),
            WatchEvent::Deleted(pod) => Line::Deleted(pod),
            WatchEvent::Bookmark(bookmark) => {
                let ends = bookmark.metadata.annotations.contains_key(LIST_ENDS);
                Line::Bookmark(bookmark.metadata.resource_version, ends)
            }
            WatchEvent::Error(status) => Line::Error { code: status.code, message: status.message },
        })
    }
}

impl<'de> Deserialize<'de> for WatchedPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = PodObject::deserialize(deserializer)?;
        // The items of a list do not say what they are.
        if let Some(kind) = object.kind.take_if(|kind| &**kind != "Pod") {
            return Err(D::Error::custom(format!("{kind:?} instead of a Pod")));
        }
        let metadata = &mut object.metadata;
        Ok(WatchedPod {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            version: metadata.resource_version.take(),
            pod: object.trim().map(Box::new),
        })
    }
}

fn is_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let kind = String::deserialize(deserializer)?;
    if kind == "PodList" {
        Ok(())
    } else {
        Err(D::Error::custom(format!("{kind:?} instead of a PodList")))
    }
}

/// Go writes `null` for a list without items.
fn null_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WatchedPod>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
