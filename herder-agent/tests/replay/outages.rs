//! A server that goes away, falls silent, breaks off, or comes back with another memory.

use super::*;

#[tokio::test]
async fn a_watch_cut_in_mid_stream_is_resumed_where_it_stood() {
    let mut follower = Follower::of(vec![whole("watch-server-killed")]).await;
    follower.until_asked(2).await;
    let asked = follower.server.asked();
    assert!(asked[1].line.contains("resourceVersion=367"), "{}", asked[1].line);
    assert_eq!(follower.server.failures(), [Failure::Cut]);
    assert_eq!(follower.names(), ["t1", "t9"]);
    let t1 = follower.store.live().find(|pod| &*pod.name == "t1");
    assert_eq!(t1.unwrap().label("step"), Some("three"));
}

/// A proxy that cuts each watch after one event. All events arrive, each once, since each
/// watch begins where the one before ended.
#[tokio::test]
async fn a_watch_that_is_cut_again_and_again_loses_nothing() {
    let events = events("watch-pods-node-1");
    let whole_story = Follower::changes_of(vec![Reply::Open(watch_of(&events))], 0).await;
    let cut = events.iter().map(|event| Reply::Whole(watch_of(slice::from_ref(event))));
    let in_pieces = Follower::changes_of(cut.collect(), events.len()).await;
    assert!(whole_story.0.len() > 10, "{:?}", whole_story.0);
    assert_eq!(in_pieces.0, whole_story.0);
    assert!(in_pieces.1.iter().all(|failure| *failure == Failure::Cut), "{:?}", in_pieces.1);
    assert_eq!(in_pieces.1.len(), events.len());
}

/// Ten minutes of tries (25 by the real pace) find no server, and then what was known last
/// is too old. Until the new list is whole, nothing is taken away.
#[tokio::test]
async fn a_server_that_was_away_for_long_is_listed_anew() {
    const TRIES: usize = 25;
    let mut later = events("streaming-list");
    for event in &mut later {
        *event = event.replace("steady", "others");
        if let Some(uid) = event.find("\"uid\":\"") {
            event.replace_range(uid + 7..uid + 11, "ffff");
        }
    }
    let mut replies = vec![whole("streaming-list")];
    replies.extend((0..TRIES).map(|_| Reply::Nothing));
    replies.extend([whole("watch-gone-410"), Reply::Open(watch_of(&later))]);
    let mut follower = Follower::of(replies).await;
    follower.until_asked(TRIES).await;
    assert_eq!(follower.names(), ["steady"], "while no server answers");
    follower.until("the other pod", |follower| follower.names() == ["others"]).await;
    let failures = follower.server.failures();
    let away = failures.iter().filter(|failure| **failure == Failure::Connection).count();
    assert_eq!((away, failures.last()), (TRIES, Some(&Failure::Expired)));
    let deleted = |change: &&PodChange| matches!(change, PodChange::Deleted(_));
    assert_eq!(follower.changes.iter().filter(deleted).count(), 1);
}

/// What takes so long in production is shown by a clock that jumps.
async fn follower_in_production(replies: Vec<Reply>) -> Follower {
    Follower::with(Server::play_with(Times::default(), replies).await, Times::default().pace)
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_agent_is_back_within_seconds() {
    const OUTAGE: Duration = Duration::from_secs(150);
    let replies = vec![
        whole("streaming-list"),
        Reply::Away(OUTAGE),
        whole("watch-gone-410"),
        open("streaming-list"),
    ];
    let (log, _guard) = logged();
    let mut follower = follower_in_production(replies).await;
    follower.until_asked(4).await;
    let asked = follower.server.asked();
    let late = asked[2].at - (asked[1].at + OUTAGE);
    assert!(late <= Duration::from_secs(15), "{late:?} late");
    let relisted = asked[3].at - asked[2].at;
    assert!(relisted < Duration::from_millis(100), "listed after another {relisted:?}");
    // Both ends of the outage are logged once, however often the server was asked meanwhile.
    let [begin] = &log.lines("does not answer")[..] else { unreachable!("{log:?}") };
    for part in ["WARN", "http://127.0.0.1", "client error", "closed at the other end"] {
        assert!(begin.contains(part), "{part}: {begin}");
    }
    let [end] = &log.lines("answers again")[..] else { unreachable!("{log:?}") };
    let seconds = end.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap();
    assert!(end.contains("INFO") && (150..=165).contains(&seconds), "{end}");
    assert_eq!(log.lines("").len(), 3, "and that the list is a new one: {log:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_success_waits_begin_small_again() {
    let away = || Reply::Away(Duration::from_secs(60));
    let replies = vec![
        whole("streaming-list"),
        away(),
        whole("watch-pods-node-1"),
        Reply::Nothing,
        open("watch-pods-node-1"),
    ];
    let mut follower = follower_in_production(replies).await;
    follower.until_asked(5).await;
    let asked = follower.server.asked();
    let wait = asked[4].at - asked[3].at;
    assert!(wait < Duration::from_millis(1700), "{wait:?} after a single failure");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_listed_at_once_but_not_in_a_loop() {
    let mut expired = events("streaming-list");
    expired.extend(events("watch-gone-410"));
    let replies = (0..5).map(|_| Reply::Open(watch_of(&expired))).collect();
    let mut follower = follower_in_production(replies).await;
    follower.until_asked(5).await;
    let asked = follower.server.asked();
    let waits: Vec<_> = asked.windows(2).map(|two| (two[1].at - two[0].at).as_millis()).collect();
    let bounds = [(0, 100), (800, 1700), (1600, 3300), (3200, 6500)];
    for (wait, (least, most)) in waits.iter().zip(bounds) {
        assert!((least..most).contains(wait), "{waits:?} ms");
    }
    assert_eq!(follower.server.failures()[..4], [Failure::Expired; 4]);
}

/// A cluster that was restored from a backup: it counts its versions from an earlier one.
#[tokio::test]
async fn a_version_that_is_too_new_is_listed_after_some_empty_watches() {
    let empty = || whole("watch-rv-in-future");
    let replies = vec![whole("streaming-list"), empty(), empty(), empty(), open("streaming-list")];
    let mut follower = Follower::of(replies).await;
    follower.until_asked(5).await;
    assert!(follower.server.asked()[4].line.contains("sendInitialEvents=true"));
}

/// A load balancer in front of such a cluster, which cuts each watch before a bookmark is due.
#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_new_is_listed_after_some_watches_that_are_cut() {
    let cut = || Reply::Cut(watch_of(&[]), Duration::from_secs(40));
    let replies = vec![whole("streaming-list"), cut(), cut(), cut(), cut(), open("streaming-list")];
    let mut follower = follower_in_production(replies).await;
    follower.until_asked(6).await;
    let asked = follower.server.asked();
    let listed: Vec<_> =
        asked.iter().map(|asked| asked.line.contains("sendInitialEvents=true")).collect();
    assert_eq!(listed, [true, false, false, false, false, true]);
    assert_eq!(follower.server.failures()[..4], [Failure::Cut; 4]);
}

/// Its connection is dead, and nothing says so. A watch that brought nothing may be of a version
/// that the server does not have.
#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_left_when_two_bookmarks_are_missing() {
    for (watch, lists) in [(open("watch-pods-node-1"), false), (Reply::Open(watch_of(&[])), true)] {
        let replies = vec![whole("streaming-list"), watch, open("streaming-list")];
        let mut follower = follower_in_production(replies).await;
        follower.until_asked(3).await;
        let asked = follower.server.asked();
        let silence = (asked[2].at - asked[1].at).as_secs();
        assert!((150..155).contains(&silence), "{silence} s");
        assert_eq!(asked[2].line.contains("sendInitialEvents=true"), lists, "{}", asked[2].line);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let times = Times { silence: Duration::from_millis(500), pace: pace(), ..Times::default() };
    let replies = vec![open("streaming-list")];
    let mut follower = Follower::at(Server::play_with(times, replies).await);
    follower.until_asked(2).await;
    let asked = follower.server.asked();
    assert!(asked[1].line.contains("resourceVersion=451"), "{}", asked[1].line);
    assert_eq!(follower.server.failures()[0], Failure::Cut);
    assert_eq!(follower.names(), ["steady"]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let times = Times { answer: Duration::from_millis(100), pace: pace(), ..Times::default() };
    // The stream stays open without so much as a head.
    let replies = vec![Reply::Open(Vec::new()), open("streaming-list")];
    let mut follower = Follower::at(Server::play_with(times, replies).await);
    follower.until_synced().await;
    assert_eq!(follower.server.failures(), [Failure::Timeout]);
}

#[tokio::test]
async fn a_server_that_stops_ends_the_watch_in_order() {
    let mut follower = Follower::of(vec![whole("watch-server-stopped")]).await;
    follower.until_asked(2).await;
    let asked = follower.server.asked();
    assert!(asked[1].line.contains("resourceVersion=352"), "{}", asked[1].line);
    assert_eq!(follower.server.failures(), []);
}

#[tokio::test]
async fn watches_that_end_at_once_go_on() {
    let replies = vec![
        whole("streaming-list"),
        whole("watch-rv-in-future"),
        whole("watch-rv-in-future"),
        open("watch-pods-node-1"),
    ];
    let mut follower = Follower::of(replies).await;
    follower
        .until("a pod of the last watch", |follower| follower.seen.contains("wire/oom-restart"))
        .await;
    assert_eq!(follower.server.failures(), []);
}

#[tokio::test]
async fn a_stream_that_never_completes_falls_back_to_the_list() {
    let ends = || whole("watch-rv-in-future");
    let replies = vec![ends(), ends(), ends(), ends(), whole("list-pods-node-1")];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert!(!follower.server.asked()[4].line.contains("watch=true"));
}

#[tokio::test]
async fn a_stream_that_is_never_answered_falls_back_to_the_list() {
    let page = || answer("504 Gateway Timeout", "text/html", "<html>");
    let replies = vec![page(), page(), page(), whole("list-pods-node-1")];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert!(!follower.server.asked()[3].line.contains("watch=true"));

    let replies = vec![Reply::Nothing, Reply::Nothing, Reply::Nothing, open("streaming-list")];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert!(follower.server.asked()[3].line.contains("watch=true"), "no proxy is to blame");
}

/// A proxy that answers no watch with anything but its own page. What is known must not be frozen.
#[tokio::test]
async fn where_no_watch_is_answered_the_pods_are_listed_now_and_then() {
    let page = || answer("504 Gateway Timeout", "text/html", "<html>");
    let list = || whole("list-pods-node-1");
    let mut replies = vec![page(), page(), page(), list()];
    replies.extend([page(), page(), page(), list(), page(), list(), page()]);
    replies.extend([whole("list-pods-node-1-mixed"), open("watch-pods-node-1")]);
    let (log, _guard) = logged();
    let mut follower = Follower::of(replies).await;
    follower.until_asked(13).await;
    let asked = follower.server.asked();
    let listed: Vec<_> = asked.iter().map(|it| !it.line.contains("watch=true")).collect();
    let (list, watch) = (true, false);
    assert_eq!(listed[..4], [watch, watch, watch, list]);
    assert_eq!(listed[4..], [watch, watch, watch, list, watch, list, watch, list, watch]);
    follower.until("the last list", |follower| follower.names().contains(&MIXED[0].into())).await;
    assert_eq!(log.lines("Watches of the pods are not answered").len(), 1, "{log:?}");
    assert_eq!(log.lines("WARN").len(), 2, "each time it fell silent: {log:?}");
}

/// Three answers 503 are no reason to do without streaming lists until the agent ends.
#[tokio::test]
async fn once_a_watch_is_answered_lists_are_streamed_again() {
    let overloaded = || answer("503 Service Unavailable", "application/json", "{}");
    let mut replies = vec![overloaded(), overloaded(), overloaded(), whole("list-pods-node-1")];
    replies.extend([whole("watch-gone-410"), open("streaming-list")]);
    let mut follower = Follower::of(replies).await;
    follower.until_asked(6).await;
    let asked = follower.server.asked();
    assert!(!asked[3].line.contains("watch=true"), "{}", asked[3].line);
    assert!(asked[5].line.contains("sendInitialEvents=true"), "{}", asked[5].line);

    // One that has none is not asked again.
    let mut replies = vec![no_streaming_list(), whole("list-pods-node-1")];
    replies.extend([whole("watch-gone-410"), whole("list-pods-node-1")]);
    let mut follower = Follower::of(replies).await;
    follower.until_asked(4).await;
    assert!(!follower.server.asked()[3].line.contains("watch=true"));
}

#[tokio::test]
async fn a_list_that_breaks_off_is_no_list() {
    let mut half = crate::server::recorded("list-pods-node-1-mixed");
    half.truncate(20_000);
    let replies = vec![no_streaming_list(), Reply::Whole(half), whole("list-pods-node-1-mixed")];
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert_eq!(follower.names(), MIXED);
    assert_eq!(follower.server.failures(), [Failure::Refused, Failure::Cut]);
}

/// The longest line, and the largest list that is read as a whole.
const LONGEST_LINE: usize = 8 << 20;
const LARGEST_LIST: usize = 24 << 20;

/// A user who may create pods must not take the names of all others away.
#[tokio::test]
async fn a_line_that_is_too_long_is_left_out_and_counted() {
    let mut events = events("streaming-list");
    let pod = &events[0];
    let long = pod.replacen("{", &format!("{{{}", " ".repeat(LONGEST_LINE)), 1);
    events.splice(0..0, [long.clone(), long]);
    let mut follower = Follower::of(vec![Reply::Open(watch_of(&events))]).await;
    let (log, _guard) = logged();
    follower.until_synced().await;
    assert_eq!(follower.names(), ["steady"]);
    assert_eq!(follower.server.failures(), [Failure::Malformed; 2]);
    assert_eq!(log.lines("the pod is too large").len(), 2, "{log:?}");
    assert_eq!(follower.server.asked().len(), 1);
}

/// It may be a deletion, which no later watch brings again. But not each of a thousand is worth a
/// list.
#[tokio::test]
async fn after_a_line_that_is_too_long_the_pods_are_listed_once() {
    let steady = events("streaming-list");
    let deleted = steady[0].replacen("ADDED", "DELETED", 1);
    let long = deleted.replacen("{", &format!("{{{}", " ".repeat(LONGEST_LINE)), 1);
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"460"}}}"#;
    let changes = [long.clone(), bookmark.to_owned()];
    let mut empty = vec![steady.last().unwrap().clone()];
    empty.extend(changes.iter().cloned().chain([deleted]));
    for watch in [Reply::Open(watch_of(&changes)), Reply::Whole(watch_of(&[long]))] {
        let replies = vec![whole("streaming-list"), watch, Reply::Open(watch_of(&empty))];
        let mut follower = Follower::of(replies).await;
        follower.until_synced().await;
        assert_eq!(follower.names(), ["steady"]);
        follower.until("a list without it", |follower| follower.names().is_empty()).await;
        let again = |follower: &Follower| follower.server.failures().len() > 1;
        follower.until("one more such line", again).await;
        let end = StdInstant::now() + Duration::from_millis(200);
        follower.until("a quiet moment", |_| StdInstant::now() > end).await;
        let asked = follower.server.asked();
        assert!(asked[2].line.contains("sendInitialEvents=true"), "{}", asked[2].line);
        assert_eq!(asked.len(), 3, "no list again so soon");
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_is_read_in_pages() {
    let long = answer("200 OK", "application/json", &" ".repeat(LARGEST_LIST + 1));
    let pages = [whole("list-pods-page1"), whole("list-pods-page2")];
    let again = [whole("watch-gone-410"), whole("list-pods-page1"), whole("list-pods-page2")];
    let replies = [no_streaming_list(), long].into_iter().chain(pages).chain(again).collect();
    let mut follower = Follower::of(replies).await;
    follower.until_synced().await;
    assert_eq!(follower.store.live().count(), 2);
    let asked = follower.server.asked();
    for page in &asked[2..4] {
        assert!(page.line.contains("limit=2"), "{}", page.line);
        assert!(!page.line.contains("resourceVersion"), "{}", page.line);
    }
    assert!(asked[3].line.contains("continue=eyJ2"), "{}", asked[3].line);
    assert_eq!(follower.server.failures()[..2], [Failure::Refused, Failure::Malformed]);
    // Nor is the next list tried as a whole.
    follower.until_asked(7).await;
    let asked = follower.server.asked();
    assert!(asked[4].line.contains("watch=true"), "{}", asked[4].line);
    assert!(asked[5].line.contains("limit=2"), "{}", asked[5].line);
    assert!(asked[6].line.contains("continue=eyJ2"), "{}", asked[6].line);
}

#[tokio::test]
async fn the_watch_ends_with_the_core() {
    let mut follower = Follower::of(vec![whole("streaming-list"), open("watch-pods-node-1")]).await;
    follower.until_synced().await;
    drop(follower.events);
    follower.watch.await.unwrap();
}
