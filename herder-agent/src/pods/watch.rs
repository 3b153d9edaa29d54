//! Follows the pods of a node at the API server: the only part of `pods` that
//! knows kube.
//!
//! kube's watcher keeps the list and the watch together: it resumes a cut watch
//! where it stood and lists again after a 410. This adds what it leaves to its
//! user: the fallback from the streaming list to LIST for servers that have
//! none, waiting after failures, counting them, and trimming each pod while it
//! is read.

use super::{Event, Pod, current::CurrentPods, wire::PodObject};
use crate::{
    apiserver::{
        Failure, OnFailure,
        backoff::{Backoff, Pace, random},
    },
    core::Command,
};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, Resource, runtime::watcher};
use serde::{Deserialize, Deserializer};
use std::{borrow::Cow, time::Duration};
use tokio::{
    sync::mpsc::WeakSender,
    time::{Instant, sleep},
};

/// So long without a failure, and the waits start small again (client-go's
/// reflector does the same).
const QUIET: Duration = Duration::from_secs(120);

/// Initial lists that may fail in the streaming way before LIST is tried: a
/// proxy between may not pass on a stream.
const STREAMING_TRIES: u32 = 3;

/// Follows the pods of a node until the core is gone. While the server is away
/// nothing is sent: the core goes on with what it knows.
///
/// HTTP failures are counted by [`crate::apiserver`]; `on_failure` here is told
/// of what only shows within a watch.
pub async fn watch(client: Client, node: &str, pace: Pace, to: Followers, on_failure: OnFailure) {
    let config = watcher::Config {
        // Else kube asks etcd, and that has to read the pods of all nodes for each page.
        page_size: None,
        ..watcher::Config::default()
            .fields(&format!("spec.nodeName={node}"))
            // Any version that the server's watch cache has, which knows pods by their
            // node; client-go's reflector asks the same.
            .any_semantic()
    };
    let mut feed = Feed {
        to,
        on_failure,
        backoff: Backoff::new(pace),
        last_failure: None,
        failed_lists: 0,
        listing: false,
    };
    let api: Api<WatchedPod> = Api::all(client);
    if feed.follow(api.clone(), config.clone().streaming_lists()).await == End::NoStreamingList {
        tracing::info!("The API server has no streaming list, so pods are listed the old way.");
        feed.follow(api, config).await;
    }
}

/// Who is told of pods.
pub struct Followers {
    /// The core, as long as it is there.
    pub core: WeakSender<Command>,
    /// What they are labelled now, if somebody else asks for that.
    pub current: Option<CurrentPods>,
}

struct Feed {
    to: Followers,
    on_failure: OnFailure,
    backoff: Backoff,
    last_failure: Option<Instant>,
    failed_lists: u32,
    listing: bool,
}

#[derive(PartialEq, Eq)]
enum End {
    CoreGone,
    NoStreamingList,
}

impl Feed {
    async fn follow(&mut self, api: Api<WatchedPod>, config: watcher::Config) -> End {
        let streaming = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
        let stream = watcher(api, config);
        pin_mut!(stream);
        while let Some(item) = stream.next().await {
            match item {
                Ok(event) => {
                    if self.pass_on(event).await.is_err() {
                        return End::CoreGone;
                    }
                }
                Err(error) => {
                    if streaming && refuses_streaming(&error) {
                        return End::NoStreamingList;
                    }
                    self.failed(&error).await;
                }
            }
            if streaming && self.failed_lists >= STREAMING_TRIES {
                return End::NoStreamingList;
            }
        }
        End::CoreGone
    }

    async fn pass_on(&mut self, event: watcher::Event<WatchedPod>) -> Result<(), CoreGone> {
        let event = match event {
            watcher::Event::Init => {
                // A streaming list that ends before it is complete is no error
                // to kube: it just begins again.
                if self.listing {
                    self.failed_lists += 1;
                }
                self.listing = true;
                Event::ListStarted
            }
            watcher::Event::InitDone => {
                self.listing = false;
                self.failed_lists = 0;
                Event::Listed
            }
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => match pod.pod {
                Some(pod) => Event::Applied(pod),
                None => return self.malformed(&pod.metadata),
            },
            watcher::Event::Delete(pod) => match pod.pod {
                Some(pod) => Event::Deleted(pod.uid),
                None => return self.malformed(&pod.metadata),
            },
        };
        if let Some(current) = &self.to.current {
            current.apply(&event);
        }
        // Held only for the moment, since the core ends when nobody can send.
        let core = self.to.core.upgrade().ok_or(CoreGone)?;
        core.send(Command::Pod(event)).await.map_err(|_| CoreGone)
    }

    fn malformed(&self, metadata: &ObjectMeta) -> Result<(), CoreGone> {
        (self.on_failure)(Failure::Malformed);
        tracing::warn!(
            namespace = metadata.namespace,
            pod = metadata.name,
            "A pod without a usable uid is left out."
        );
        Ok(())
    }

    async fn failed(&mut self, error: &watcher::Error) {
        if let watcher::Error::WatchError(status) = error {
            (self.on_failure)(match status.code {
                410 => Failure::Expired,
                _ => Failure::Watch,
            });
        }
        if self.listing {
            self.failed_lists += 1;
            self.listing = false;
        }
        let now = Instant::now();
        let quiet = self.last_failure.is_none_or(|last| now - last > QUIET);
        if quiet {
            self.backoff.reset();
        }
        self.last_failure = Some(now);
        let wait = self.backoff.after_failure(random());
        tracing::warn!(%error, ?wait, "Following the pods failed; what is known stays in use.");
        sleep(wait).await;
    }
}

struct CoreGone;

/// Whether a server says that it has no streaming list: without the feature
/// gate WatchList, off by default before 1.32, it calls `sendInitialEvents`
/// forbidden in a 422 (`validateWatchOptions()`,
/// apimachinery/pkg/apis/meta/internalversion/validation/validation.go).
fn refuses_streaming(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400 | 422)
        }
        _ => false,
    }
}

/// A pod that is trimmed in the moment it is read, so that not even a page of
/// the list is ever in memory as whole objects.
#[derive(Clone, Debug)]
struct WatchedPod {
    metadata: ObjectMeta,
    pod: Option<Box<Pod>>,
}

impl<'de> Deserialize<'de> for WatchedPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = PodObject::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: object.metadata.name.as_deref().map(str::to_owned),
            namespace: object.metadata.namespace.as_deref().map(str::to_owned),
            resource_version: object.metadata.resource_version.take(),
            ..ObjectMeta::default()
        };
        Ok(WatchedPod { metadata, pod: object.trim().map(Box::new) })
    }
}

impl Resource for WatchedPod {
    type DynamicType = ();
    type Scope = <v1::Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        v1::Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        v1::Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        v1::Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        v1::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
