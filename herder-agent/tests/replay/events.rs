//! Events, and all the ways in which a server does not take one.

use super::server::{Asked, Reply, Server, answer, logged, no_answers, pace, recorded, whole};
use herder_agent::inside::kubernetes::{
    client::Failure,
    events::{
        About, Occurrence, Reason,
        send::{EventQueue, EventWriter, OnOutcome, Outcome},
    },
};
use herder_model::{owner::id::PodUid, pods::ContainerKind};
use serde_json::Value;
use std::{
    future::pending,
    path::Path,
    sync::{Arc, Mutex},
};

/// How often one Event is tried.
const TRIES: usize = 12;

/// What is to be reported of the pod of the recordings.
pub(crate) fn occurrence(message: &str) -> Occurrence {
    Occurrence::new(
        About {
            namespace: "wire".into(),
            pod: "steady".into(),
            uid: PodUid::parse("b3732813-ecd0-4a0d-8f4a-9d99c30b8435").unwrap(),
            container: Some((ContainerKind::Regular, "main".into())),
        },
        Reason::SubprocessOomKilled,
        message.to_owned(),
    )
}

/// Emits the messages to a server with these replies, until all are done.
async fn emit(replies: Vec<Reply>, messages: &[&str]) -> (Vec<Outcome>, Vec<Asked>) {
    let server = Server::play(replies).await;
    (send_to(&server, messages).await, server.asked())
}

async fn send_to(server: &Server, messages: &[&str]) -> Vec<Outcome> {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = outcomes.clone();
    let on_outcome: OnOutcome = Arc::new(move |outcome| seen.lock().unwrap().push(outcome));
    let (queue, receiver) = EventQueue::new(on_outcome.clone());
    let writer = EventWriter::new(receiver, server.api.clone(), "node-1", pace(), on_outcome);
    for message in messages {
        queue.emit(occurrence(message));
    }
    drop(queue);
    assert_eq!(writer.run(pending()).await, 0, "all is done");
    outcomes.lock().unwrap().clone()
}

/// The body of a recorded request.
fn recorded_request(name: &str) -> Value {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/k8s-wire");
    let text = std::fs::read_to_string(fixtures.join(format!("{name}.request.txt"))).unwrap();
    let (_, body) = text.replace("\r\n", "\n").split_once("\n\n").map(own).unwrap();
    serde_json::from_str(&body).unwrap()
}

fn own((head, body): (&str, &str)) -> (String, String) {
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn an_event_is_written_and_counted_up() {
    let replies = vec![whole("event-post-201"), whole("event-patch-200")];
    let (outcomes, asked) = emit(replies, &["a", "a"]).await;
    assert_eq!(outcomes, [Outcome::Created, Outcome::Updated]);

    assert_eq!(asked[0].line, "POST /api/v1/namespaces/wire/events");
    assert_eq!(asked[0].content_type, "application/json");
    let mut body: Value = serde_json::from_str(&asked[0].body).unwrap();
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    // The same as in the recording but for what has to differ.
    let mut expected = recorded_request("event-post-201");
    assert_eq!(body["reason"], "SubprocessOOMKilled");
    for object in [&mut expected, &mut body] {
        object["reason"] = "any".into();
        object["message"] = "a".into();
        object["metadata"]["name"] = "any".into();
        object["firstTimestamp"] = "any".into();
        object["lastTimestamp"] = "any".into();
        object["source"]["component"] = "any".into();
        object["reportingComponent"] = "any".into();
    }
    assert_eq!(body, expected);

    assert_eq!(asked[1].line, format!("PATCH /api/v1/namespaces/wire/events/{name}"));
    assert_eq!(asked[1].content_type, "application/strategic-merge-patch+json");
    let mut patch: Value = serde_json::from_str(&asked[1].body).unwrap();
    let time = patch["lastTimestamp"].take();
    let time = time.as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z')), ("2026-11-23T23:26:41Z".len(), true));
    // The text goes with it, for of combined Events it changes.
    assert_eq!(patch["message"].take(), "a");
    let mut expected = recorded_request("event-patch-200");
    expected["lastTimestamp"] = Value::Null;
    expected["message"] = Value::Null;
    assert_eq!(patch, expected);
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    for (name, failure) in [
        ("event-post-again-409", Failure::Conflict),
        ("event-post-invalid-422", Failure::Refused),
        ("event-post-malformed-400", Failure::Refused),
        ("event-post-no-namespace-404", Failure::NotFound),
        ("event-post-forbidden-403", Failure::Forbidden),
    ] {
        let replies = vec![whole(name), whole("event-post-201")];
        let (outcomes, asked) = emit(replies, &["a", "a"]).await;
        assert_eq!(outcomes, [Outcome::Failed(failure), Outcome::Created], "{name}");
        // And the next of its kind is a new one, not a change of none.
        assert!(asked[1].line.starts_with("POST "), "{name}");
        assert_eq!(asked.len(), 2, "{name}");
    }
}

/// Whatever is no answer of an API server is counted, tried again, and in the end logged.
#[tokio::test]
async fn what_is_no_answer_is_counted_and_tried_again() {
    for (what, reply) in no_answers("Event") {
        let server = Server::play(vec![reply(), reply(), whole("event-post-201")]).await;
        let outcomes = send_to(&server, &["a"]).await;
        assert_eq!(outcomes, [Outcome::Created], "{what}");
        assert_eq!(server.failures(), [Failure::Malformed; 2], "{what}");
        let methods: Vec<_> = server.asked().iter().map(|asked| asked.line.clone()).collect();
        assert!(methods.iter().all(|line| line.starts_with("POST ")), "{what}: {methods:?}");

        let replies = vec![whole("event-post-201"), reply(), whole("event-patch-200")];
        let server = Server::play(replies).await;
        let outcomes = send_to(&server, &["a", "a"]).await;
        assert_eq!(outcomes, [Outcome::Created, Outcome::Updated], "{what}");
        assert_eq!(server.failures(), [Failure::Malformed], "{what}");
    }
    let page = || no_answers("Event").remove(0).1();
    let server = Server::play((0..TRIES).map(|_| page()).collect()).await;
    assert_eq!(send_to(&server, &["a"]).await, [Outcome::Failed(Failure::Malformed)]);
    assert_eq!(server.failures(), [Failure::Malformed; TRIES]);
}

/// A missing right is the same for all Events, and logged once. A quota or a webhook refuses those
/// of one namespace, perhaps.
#[tokio::test]
async fn only_a_missing_right_is_logged_as_one() {
    let (log, _guard) = logged();
    let quota = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"events "a" is forbidden: exceeded quota: q, requested: count/events=1, used: count/events=9, limited: count/events=9","reason":"Forbidden","code":403}"#;
    let quota = || answer("403 Forbidden", "application/json", quota);
    let right = || whole("event-post-forbidden-403");
    let (outcomes, _) = emit(vec![quota(), right(), right(), quota()], &["a"; 4]).await;
    assert_eq!(outcomes, [Outcome::Failed(Failure::Forbidden); 4]);
    assert_eq!(log.lines("The ClusterRole does not allow events").len(), 1, "{log:?}");
    let other = log.lines("An Event could not be written");
    assert!(other.len() == 2 && other[0].contains("pod=steady"), "{log:?}");
}

/// What comes behind does not wait for minutes.
#[tokio::test]
async fn an_event_that_a_webhook_fails_at_keeps_up_no_others_for_long() {
    let internal = |message: &str| {
        let status = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"InternalError","code":500}}"#
        );
        answer("500 Internal Server Error", "application/json", &status)
    };
    let fails = || internal("Internal error occurred: failed calling webhook");
    let written = || whole("event-post-201");
    let replies = vec![fails(), fails(), fails(), written(), written()];
    let (outcomes, asked) = emit(replies, &["a", "b"]).await;
    assert_eq!(outcomes, [Outcome::Failed(Failure::Server), Outcome::Created]);
    assert_eq!(asked.len(), 4);

    // A server that is away for a while is another matter.
    let away = || answer("503 Service Unavailable", "text/html", "<html>");
    let (outcomes, _) =
        emit(vec![away(), away(), away(), away(), whole("event-post-201")], &["a"]).await;
    assert_eq!(outcomes, [Outcome::Created]);
    let elects = || internal("etcdserver: leader changed");
    let replies = vec![elects(), elects(), elects(), whole("event-post-201")];
    assert_eq!(emit(replies, &["a"]).await.0, [Outcome::Created]);
}

/// The answer of a server that deletes the namespace. Not recorded, but put
/// together from `NamespaceLifecycle` (plugin/pkg/admission/namespace/lifecycle).
#[tokio::test]
async fn a_namespace_that_goes_away_is_no_lack_of_rights() {
    let body = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"events \"a\" is forbidden: unable to create new content in namespace wire because it is being terminated","reason":"Forbidden","details":{"name":"a","kind":"events","causes":[{"reason":"NamespaceTerminating","message":"namespace wire is being terminated","field":"metadata.namespace"}]},"code":403}"#;
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (outcomes, _) = emit(vec![Reply::Whole([head, body.into()].concat().into())], &["a"]).await;
    assert_eq!(outcomes, [Outcome::Failed(Failure::NotFound)]);
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again() {
    let mut cut = recorded("event-post-201");
    cut.truncate(900);
    let table = [
        (vec![whole("throttled-429-event-post")], whole("event-post-201")),
        (vec![whole("unauthorized-401")], whole("event-post-201")),
        (vec![whole("list-rv-in-future")], whole("event-post-201")),
        (vec![Reply::Nothing, Reply::Nothing], whole("event-post-201")),
        // The first was written, only its answer was lost.
        (vec![Reply::Whole(cut)], whole("event-post-again-409")),
    ];
    for (mut replies, last) in table {
        let count = replies.len() + 1;
        replies.push(last);
        let (outcomes, asked) = emit(replies, &["a"]).await;
        assert_eq!(outcomes, [Outcome::Created]);
        assert_eq!(asked.len(), count);
        assert!(asked.iter().all(|request| request.body == asked[0].body));
    }
}

#[tokio::test]
async fn an_event_that_expired_is_written_anew() {
    let replies = vec![
        whole("event-post-201"),
        whole("event-post-no-namespace-404"),
        whole("event-post-201"),
    ];
    let (outcomes, asked) = emit(replies, &["a", "a"]).await;
    assert_eq!(outcomes, [Outcome::Created, Outcome::Created]);
    assert!(asked[1].line.starts_with("PATCH "));
    let body: Value = serde_json::from_str(&asked[2].body).unwrap();
    assert_eq!(body["count"], 2);
}

#[tokio::test]
async fn an_unreachable_server_costs_one_event_at_a_time() {
    let replies = (0..TRIES).map(|_| Reply::Nothing).collect();
    let (outcomes, asked) = emit(replies, &["a"]).await;
    assert_eq!(outcomes, [Outcome::Failed(Failure::Connection)]);
    assert_eq!(asked.len(), TRIES);
}

#[tokio::test]
async fn a_full_queue_drops_and_a_used_up_share_is_not_sent() {
    let replies = (0..25).map(|_| whole("event-post-201")).collect();
    let messages = ["a"; 200];
    let (outcomes, asked) = emit(replies, &messages).await;
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    assert_eq!(count(Outcome::Dropped), 72);
    assert_eq!(count(Outcome::Suppressed), 103);
    assert_eq!((asked.len(), outcomes.len()), (25, 200));
}
