//! Lists and watches of pods.

mod outages;

use super::server::{
    Reply, Server, answer, events, logged, no_answers, no_streaming_list, open, pace, watch_of,
    whole,
};
use herder_agent::inside::{
    kernel::clock::monotonic_now,
    kubernetes::{
        client::{Failure, Times},
        pods::{Followers, watch},
    },
};
use herder_model::{
    backoff::Pace,
    pods::{
        Event,
        restarts::Reason,
        store::{GRACE, PodChange, PodStore},
    },
};
use std::{
    collections::BTreeSet,
    iter, slice,
    time::{Duration, Instant as StdInstant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// A store that follows the server.
struct Follower {
    server: Server,
    store: PodStore,
    changes: Vec<PodChange>,
    /// `namespace/name` of all pods that ever were.
    seen: BTreeSet<String>,
    events: mpsc::Receiver<Event>,
    watch: JoinHandle<()>,
}

impl Follower {
    async fn of(replies: Vec<Reply>) -> Follower {
        Follower::at(Server::play(replies).await)
    }

    fn at(server: Server) -> Follower {
        Follower::with(server, pace())
    }

    fn with(server: Server, pace: Pace) -> Follower {
        let (sender, events) = mpsc::channel(4);
        let to = Followers { events: sender, current: None };
        let api = server.api.clone();
        let watch = tokio::spawn(async move { watch(api, "node-1", pace, to).await });
        Follower {
            server,
            store: PodStore::default(),
            changes: Vec::new(),
            seen: BTreeSet::new(),
            events,
            watch,
        }
    }

    /// Applies events until the condition holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Follower) -> bool) {
        let end = StdInstant::now() + Duration::from_secs(20);
        while !condition(self) {
            let left = end.saturating_duration_since(StdInstant::now());
            let step = left.min(Duration::from_millis(20));
            if let Ok(Some(event)) = tokio::time::timeout(step, self.events.recv()).await {
                self.changes.extend(self.store.apply(event, monotonic_now()));
                self.seen
                    .extend(self.store.live().map(|pod| format!("{}/{}", pod.namespace, pod.name)));
            }
            assert!(
                !left.is_zero(),
                "never: {what}; asked {:#?}, failures {:?}",
                self.server.asked(),
                self.server.failures()
            );
        }
    }

    async fn until_synced(&mut self) {
        self.until("a full list", |follower| follower.store.synced()).await;
    }

    async fn until_asked(&mut self, count: usize) {
        self.until("so many requests", |follower| follower.server.asked().len() >= count).await;
    }

    /// All changes that come of a list and these watches, of which so many are cut.
    async fn changes_of(watches: Vec<Reply>, cut: usize) -> (Vec<PodChange>, Vec<Failure>) {
        let asked = 1 + watches.len() + usize::from(cut > 0);
        let replies = iter::once(whole("streaming-list")).chain(watches).collect();
        let mut follower = Follower::of(replies).await;
        follower.until_asked(asked).await;
        // What the last watch sent is still on its way.
        let mut before = usize::MAX;
        while follower.changes.len() != before {
            before = follower.changes.len();
            let end = StdInstant::now() + Duration::from_millis(200);
            follower.until("a quiet moment", |_| StdInstant::now() > end).await;
        }
        (follower.changes, follower.server.failures())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.store.live().map(|pod| pod.name.to_string()).collect();
        names.sort_unstable();
        names
    }
}

const MIXED: [&str; 6] =
    ["agent-sc9zr", "besteffort", "guaranteed", "noimage", "static-node-1", "web-59f689d69-85t88"];

#[tokio::test]
async fn a_streaming_list_is_asked_for_and_followed() {
    let mut follower = Follower::of(vec![whole("streaming-list")]).await;
    follower.until_synced().await;
    assert_eq!(follower.names(), ["steady"]);
    follower.until_asked(2).await;
    let asked = follower.server.asked();
    for part in [
        "GET /api/v1/pods?",
        "watch=true",
        "fieldSelector=spec.nodeName%3Dnode-1",
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "allowWatchBookmarks=true",
    ] {
        assert!(asked[0].line.contains(part), "{part}: {}", asked[0].line);
    }
    // From the bookmark on, and without the list this time.
    assert!(asked[1].line.contains("resourceVersion=451"));
    assert!(!asked[1].line.contains("sendInitialEvents"));
    assert_eq!(follower.server.failures(), []);
}

#[tokio::test]
async fn a_server_without_streaming_list_is_listed() {
    let mut follower =
        Follower::of(vec![no_streaming_list(), whole("list-pods-node-1-mixed")]).await;
    follower.until_synced().await;
    assert_eq!(follower.names(), MIXED);
    follower.until_asked(3).await;
    let asked = follower.server.asked();
    for part in ["resourceVersion=0", "resourceVersionMatch=NotOlderThan"] {
        assert!(asked[1].line.contains(part), "{part}: {}", asked[1].line);
    }
    // With a limit the server asks etcd.
    assert!(!asked[1].line.contains("watch=true") && !asked[1].line.contains("limit="));
    assert!(asked[2].line.contains("watch=true"));
    assert_eq!(follower.server.failures(), [Failure::Refused]);
}

#[tokio::test]
async fn pages_are_put_together() {
    let replies = vec![no_streaming_list(), whole("list-pods-page1"), whole("list-pods-page2")];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert_eq!(follower.store.live().count(), 2);
    let asked = follower.server.asked();
    assert!(asked[2].line.contains("continue=eyJ2"), "{}", asked[2].line);
}

#[tokio::test]
async fn an_expired_page_starts_the_list_again() {
    let replies = vec![
        no_streaming_list(),
        whole("list-pods-page1"),
        whole("list-continue-expired-410"),
        whole("list-pods-node-1-mixed"),
    ];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    // The pod of the first page is not in the list that counts.
    assert_eq!(follower.names(), MIXED);
    assert_eq!(follower.server.failures(), [Failure::Refused, Failure::Expired]);
}

#[tokio::test]
async fn kills_restarts_deletions_and_labels_are_followed() {
    let replies = vec![whole("streaming-list"), open("watch-pods-node-1")];
    let mut follower = Follower::of(replies).await;
    follower
        .until("both pods gone", |follower| {
            let deleted =
                follower.changes.iter().filter(|change| matches!(change, PodChange::Deleted(_)));
            deleted.count() == 2
        })
        .await;
    assert_eq!(follower.names(), ["steady"]);
    let steady = follower.store.live().next().unwrap();
    assert_eq!(steady.label("step"), Some("one"));
    let restarts: Vec<_> = follower
        .changes
        .iter()
        .filter_map(|change| match change {
            PodChange::Restarted(restart) => Some(restart),
            _ => None,
        })
        .collect();
    assert_eq!(restarts.len(), 3);
    for restart in &restarts {
        assert_eq!(restart.names.pod, "oom-restart");
        assert_eq!((restart.reason, restart.times), (Reason::OomKilled, 1));
        // The incarnation that was killed can still be found.
        let ended = follower.store.by_container(restart.ended.unwrap()).unwrap();
        assert_eq!(ended.pod.name.as_ref(), "oom-restart");
        assert_eq!(ended.container.unwrap().name.as_ref(), "main");
        assert!(follower.store.get(ended.pod.uid).is_none());
    }
    assert_eq!(follower.server.failures(), []);
}

/// A pod that is deleted while its containers run on is found by their cgroups until they
/// are gone, and a while longer.
#[tokio::test]
async fn a_deleted_pod_is_found_while_its_containers_run() {
    let replies = vec![whole("streaming-list"), open("watch-pods-node-1")];
    let mut follower = Follower::of(replies).await;
    let restarted = |follower: &Follower| {
        follower.changes.iter().find_map(|change| match change {
            PodChange::Restarted(restart) => restart.ended,
            _ => None,
        })
    };
    follower.until("a restart", |follower| restarted(follower).is_some()).await;
    let ended = restarted(&follower).unwrap();
    let uid = follower.store.by_container(ended).unwrap().pod.uid;
    follower.store.set_running(uid, true);
    follower.until("it is deleted", |follower| follower.store.get(uid).is_none()).await;
    let hours = monotonic_now() + GRACE * 100;
    follower.store.expire(hours);
    let found = follower.store.by_container(ended).unwrap();
    assert_eq!(found.pod.name.as_ref(), "oom-restart");
    assert!(follower.store.has("wire", "oom-restart"));
    follower.store.set_running(uid, false);
    follower.store.expire(hours + GRACE / 2);
    assert!(follower.store.known(uid).is_some(), "kills are reported later than they happen");
    follower.store.expire(hours + GRACE);
    assert!(follower.store.known(uid).is_none());
}

#[tokio::test]
async fn a_watch_is_taken_up_after_the_last_bookmark() {
    let replies = vec![whole("streaming-list"), whole("watch-pods-node-1")];
    let mut follower = Follower::of(replies).await;
    follower.until_asked(3).await;
    let asked = follower.server.asked();
    assert!(asked[2].line.contains("resourceVersion=416"), "{}", asked[2].line);
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again() {
    let replies = vec![whole("streaming-list"), whole("watch-gone-410"), open("streaming-list")];
    let mut follower = Follower::of(replies).await;
    follower.until_asked(3).await;
    let asked = follower.server.asked();
    assert!(asked[2].line.contains("sendInitialEvents=true"));
    assert_eq!(follower.server.failures(), [Failure::Expired]);
    // All that time nothing was taken away.
    assert_eq!(follower.names(), ["steady"]);
    let deleted = |change: &PodChange| matches!(change, PodChange::Deleted(_));
    assert!(!follower.changes.iter().any(deleted));
}

#[tokio::test]
async fn failures_are_counted_and_tried_again() {
    let table = [
        (vec![whole("unauthorized-401")], Failure::Unauthorized),
        (vec![whole("forbidden-403")], Failure::Forbidden),
        (vec![Reply::Nothing], Failure::Connection),
        (vec![whole("unauthorized-401"), whole("unauthorized-401")], Failure::Unauthorized),
    ];
    for (mut replies, failure) in table {
        let times = replies.len();
        replies.push(open("streaming-list"));
        let mut follower = Follower::of(replies).await;
        follower.until_synced().await;
        assert_eq!(follower.server.failures(), vec![failure; times]);
        assert_eq!(follower.names(), ["steady"]);
    }
}

/// Lists, in a stream and the old way, and watches: what is no answer is counted once each
/// time and takes nothing away.
#[tokio::test]
async fn what_is_no_answer_is_counted_and_is_no_list() {
    for (what, reply) in no_answers("PodList") {
        let streamed = vec![reply(), open("streaming-list")];
        let listed = vec![no_streaming_list(), reply(), whole("list-pods-node-1")];
        let watched = vec![whole("streaming-list"), reply(), open("streaming-list")];
        for (replies, refused) in [(streamed, 0), (listed, 1), (watched, 0)] {
            let (count, mut failures) = (replies.len(), vec![Failure::Refused; refused]);
            failures.push(Failure::Malformed);
            let mut follower = Follower::of(replies).await;
            follower.until_asked(count).await;
            follower.until_synced().await;
            assert_eq!(follower.server.failures(), failures, "{what}");
            let deleted = |change: &PodChange| matches!(change, PodChange::Deleted(_));
            assert!(!follower.changes.iter().any(deleted), "{what}");
        }
    }
}

/// Lines of a watch that are not what they should be. What came before them stays.
#[tokio::test]
async fn a_line_that_is_no_event_ends_the_watch() {
    let pod = &events("watch-pods-node-1")[0];
    let node = pod.replacen(r#""kind":"Pod""#, r#""kind":"Node""#, 1);
    let table = [
        (pod[..pod.len() / 2].to_owned(), Failure::Malformed),
        (node, Failure::Malformed),
        (pod.replacen("ADDED", "BORED", 1).replacen("MODIFIED", "BORED", 1), Failure::Malformed),
        (r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{}}}"#.into(), Failure::Malformed),
        (
            r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"x","code":500}}"#.into(),
            Failure::Watch,
        ),
    ];
    for (line, failure) in table {
        let watch = watch_of(&[pod.clone(), line.clone(), pod.clone()]);
        let replies = vec![whole("streaming-list"), Reply::Open(watch), open("streaming-list")];
        let mut follower = Follower::of(replies).await;
        follower.until_asked(3).await;
        assert!(follower.server.asked()[2].line.contains("sendInitialEvents=true"), "{line}");
        assert_eq!(follower.server.failures(), [failure], "{line}");
    }
    // The end of a stream, however orderly, is no end of a line.
    let half = answer("200 OK", "application/json", &pod[..pod.len() / 2]);
    let mut follower = Follower::of(vec![whole("streaming-list"), half]).await;
    follower.until_asked(3).await;
    assert_eq!(follower.server.failures(), [Failure::Malformed]);
}

/// A pod of which nothing can be known takes no other with it.
#[tokio::test]
async fn a_pod_without_a_uid_is_left_out_and_counted() {
    let mut events = events("streaming-list");
    let nameless = events[0].replacen(r#""uid":""#, r#""uid":"x"#, 1);
    events.insert(0, nameless);
    let mut follower = Follower::of(vec![Reply::Open(watch_of(&events))]).await;
    follower.until_synced().await;
    assert_eq!(follower.names(), ["steady"]);
    assert_eq!(follower.server.failures(), [Failure::Malformed]);
}

/// An outage that changes its face is logged again; a server that refuses is recognised by
/// what it says.
#[tokio::test]
async fn what_an_outage_is_about_is_logged_as_often_as_it_changes() {
    let (log, _guard) = logged();
    let replies = vec![
        Reply::Nothing,
        Reply::Nothing,
        whole("forbidden-403"),
        whole("forbidden-403"),
        answer("200 OK", "text/html", "<html>"),
        open("streaming-list"),
    ];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert_eq!(log.lines("closed at the other end").len(), 1, "{log:?}");
    assert_eq!(log.lines("refuses to list the pods").len(), 1, "{log:?}");
    assert_eq!(log.lines("403 Forbidden: ").len(), 1, "{log:?}");
    assert_eq!(log.lines("200 OK with text/html").len(), 1, "{log:?}");
    assert_eq!(log.lines("answers again").len(), 1, "{log:?}");
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let table = [
        (vec![whole("throttled-429-watch"), open("streaming-list")], vec![Failure::Throttled]),
        (
            vec![no_streaming_list(), whole("throttled-429-list"), whole("list-pods-node-1")],
            vec![Failure::Refused, Failure::Throttled],
        ),
        (
            vec![no_streaming_list(), whole("list-rv-in-future"), whole("list-pods-node-1")],
            vec![Failure::Refused, Failure::Server],
        ),
    ];
    for (replies, failures) in table {
        let throttled = replies.len() - 2;
        let mut follower = Follower::of(replies).await;
        follower.until_synced().await;
        let asked = follower.server.asked();
        let wait = asked[throttled + 1].at - asked[throttled].at;
        assert!(wait >= Duration::from_secs(1), "asked again after {wait:?}");
        assert_eq!(follower.server.failures(), failures);
    }
}
