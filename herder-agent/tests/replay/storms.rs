//! Many kills at once, and the end of the agent.

use super::{
    events::occurrence,
    server::{Asked, Reply, Server, whole},
};
use herder_agent::inside::kubernetes::{
    client::Times,
    events::{
        Occurrence, Reason,
        send::{EventQueue, EventWriter, OnOutcome, Outcome},
    },
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// When the first kill of a storm was.
const FIRST_KILL: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// A queue, and its writer until so long after it is stopped.
struct Storm {
    queue: EventQueue,
    server: Server,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: oneshot::Sender<()>,
    writing: JoinHandle<usize>,
}

impl Storm {
    const LAST: Duration = Duration::from_secs(2);

    async fn of(replies: Vec<Reply>) -> Storm {
        let server = Server::play_with(Times::default(), replies).await;
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let seen = outcomes.clone();
        let on_outcome: OnOutcome = Arc::new(move |outcome| seen.lock().unwrap().push(outcome));
        let (queue, receiver) = EventQueue::new(on_outcome.clone());
        let api = server.api.clone();
        let writer = EventWriter::new(receiver, api, "node-1", Times::default().pace, on_outcome);
        let (stop, stopped) = oneshot::channel();
        let writing = tokio::spawn(writer.run(async {
            let _ = stopped.await;
            sleep(Storm::LAST).await;
        }));
        Storm { queue, server, outcomes, stop, writing }
    }

    /// So many kills in a container, each of another process, one a second; gives how many were
    /// built.
    fn kills(&mut self, container: &str, count: usize) -> usize {
        let mut built = 0;
        for number in 0..count {
            let about = occurrence("").about;
            let time = FIRST_KILL + Duration::from_secs(number as u64);
            self.queue.emit_kill(about.uid, container, Reason::SubprocessOomKilled, time, || {
                built += 1;
                Occurrence { time, ..occurrence(&format!("Process hog (pid {number})")) }
            });
        }
        built
    }

    async fn until_asked(&self, count: usize) -> Vec<Asked> {
        for _ in 0..20_000 {
            if self.server.asked().len() >= count {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        assert!(
            self.server.asked().len() >= count,
            "{:#?} {:?}",
            self.server.asked(),
            self.outcomes
        );
        self.server.asked()
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.lock().unwrap().iter().filter(|it| **it == outcome).count()
    }

    /// As the agent ends; gives how many were not written.
    async fn stop(self) -> usize {
        drop((self.queue, self.stop));
        self.writing.await.unwrap()
    }
}

fn body(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_a_storm_some_kills_are_emitted_and_the_rest_is_counted_now_and_then() {
    let replies = (0..3).map(|_| whole("event-post-201"));
    let replies = replies.chain((0..3).map(|_| whole("event-patch-200"))).collect();
    let mut storm = Storm::of(replies).await;
    let begin = Instant::now();
    assert_eq!(storm.kills("main", 1000), 3);
    let asked = storm.until_asked(4).await;
    assert!(asked[..3].iter().all(|asked| asked.line.starts_with("POST ")));
    let waited = (asked[3].at - begin).as_secs();
    assert!(asked[3].line.starts_with("PATCH ") && (10..12).contains(&waited), "{waited} s");
    let update = body(&asked[3]);
    assert_eq!(update["count"], 998, "with the third, that is all");
    assert_eq!(update["message"], "(combined from similar events): Process hog (pid 2)");
    assert_eq!(update["lastTimestamp"], (FIRST_KILL + Duration::from_secs(999)).to_string());

    assert_eq!(storm.kills("main", 500), 0);
    let asked = storm.until_asked(5).await;
    assert_eq!(body(&asked[4])["count"], 1498);
    let waited = (asked[4].at - asked[3].at).as_secs();
    assert!((10..12).contains(&waited), "no more often: {waited} s");

    // What came last is written at the end, without waiting.
    storm.kills("main", 5);
    let (last, outcomes) = (Instant::now(), storm.outcomes.clone());
    assert_eq!([Outcome::Created, Outcome::Updated].map(|it| storm.count(it)), [3, 2]);
    assert_eq!(storm.count(Outcome::Suppressed), 997 + 500 + 5);
    assert_eq!(storm.stop().await, 0);
    assert!(last.elapsed() < Duration::from_millis(100));
    assert_eq!(outcomes.lock().unwrap().last(), Some(&Outcome::Updated));
}

/// Nothing is asked for while nothing happens.
#[tokio::test(start_paused = true)]
async fn after_a_storm_there_is_quiet() {
    let replies = (0..9).map(|_| whole("event-post-201")).collect();
    let mut storm = Storm::of(replies).await;
    storm.kills("main", 100);
    storm.until_asked(4).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(storm.server.asked().len(), 4);
}

/// A healthy server gets what came last, and no warning is logged.
#[tokio::test(start_paused = true)]
async fn at_the_end_all_is_written() {
    let mut storm = Storm::of(vec![whole("event-post-201"), whole("event-post-201")]).await;
    storm.kills("main", 2);
    let (server, outcomes) = (storm.server.asked().len(), storm.outcomes.clone());
    assert_eq!((server, storm.stop().await), (0, 0));
    assert_eq!(*outcomes.lock().unwrap(), [Outcome::Created; 2]);
}

/// A server that does not answer keeps the agent no longer than that, and the agent says how
/// much is lost.
#[tokio::test(start_paused = true)]
async fn what_is_not_written_at_the_end_is_counted() {
    for replies in [vec![Reply::Away(Duration::from_secs(600))], Vec::new()] {
        let mut storm = Storm::of(replies).await;
        storm.kills("main", 2);
        storm.kills("side", 2);
        let (begin, outcomes) = (Instant::now(), storm.outcomes.clone());
        assert_eq!(storm.stop().await, 4);
        assert_eq!(begin.elapsed().as_secs(), Storm::LAST.as_secs());
        assert_eq!(*outcomes.lock().unwrap(), [Outcome::Dropped; 4]);
    }
}

/// After an Event that was not taken the next kill has a new one: the server has none to count up.
#[tokio::test(start_paused = true)]
async fn after_an_event_that_failed_the_next_is_a_new_one() {
    let forbidden = (0..3).map(|_| whole("event-post-forbidden-403"));
    let replies = forbidden.chain([whole("event-post-201")]).collect();
    let mut storm = Storm::of(replies).await;
    assert_eq!(storm.kills("main", 10), 3);
    storm.until_asked(3).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(storm.kills("main", 1), 1);
    let asked = storm.until_asked(4).await;
    assert_eq!(
        (body(&asked[3])["count"].clone(), asked[3].line.split(' ').next()),
        (1.into(), Some("POST"))
    );
}
