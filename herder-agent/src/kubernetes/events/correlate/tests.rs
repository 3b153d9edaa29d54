//! What becomes of occurrences.

use super::*;
use crate::kubernetes::events::recent::REMEMBERED;
use herder_model::{owner::id::PodUid, pods::ContainerKind};

fn about(pod: &str) -> About {
    About {
        namespace: "shop".into(),
        pod: pod.into(),
        uid: PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap(),
        container: Some((ContainerKind::Regular, "main".into())),
    }
}

fn occurrence(pod: &str, text: &str, seconds: i64) -> Occurrence {
    let reason = Reason::SubprocessOomKilled;
    Occurrence { time: time(seconds), ..Occurrence::new(about(pod), reason, text.to_owned()) }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_same_again_counts_up() {
    let now = Instant::now();
    let mut correlator = Correlator::default();
    let mut emit = |text, at| {
        correlator.correlate(occurrence("cart", text, at), SuppressedCount::default(), now)
    };
    let first = emit("a", 0).unwrap();
    assert_eq!((first.count, first.is_update), (1, false));
    let again = emit("a", 5).unwrap();
    assert_eq!((again.count, again.is_update), (2, true));
    assert_eq!((&again.name, again.first), (&first.name, time(0)));
    assert_eq!(again.last, time(5));
    let late = emit("a", 3).unwrap();
    assert_eq!((late.first, late.last), (time(0), time(5)), "it was only reported later");
    let other = emit("b", 6).unwrap();
    assert_eq!(other.count, 1);
    assert_ne!(other.name, first.name);
}

#[tokio::test(start_paused = true)]
async fn many_similar_ones_are_combined_until_there_is_a_pause() {
    let mut now = Instant::now();
    let mut correlator = Correlator::default();
    let mut combined = Vec::new();
    for number in 0..12 {
        let text = format!("pid {number}");
        let emitted = correlator
            .correlate(occurrence("cart", &text, number), SuppressedCount::default(), now)
            .unwrap();
        if emitted.message == format!("{COMBINED}{text}") {
            combined.push((number, emitted.count));
        } else {
            assert_eq!((emitted.message, emitted.count), (text, 1));
        }
    }
    assert_eq!(combined, [(9, 1), (10, 2), (11, 3)]);
    now += SIMILAR_WITHIN + Duration::from_secs(1);
    let emitted =
        correlator.correlate(occurrence("cart", "pid 99", 700), SuppressedCount::default(), now);
    assert_eq!(emitted.unwrap().message, "pid 99");
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_a_share_and_gets_more_with_time() {
    let mut now = Instant::now();
    let mut correlator = Correlator::default();
    let mut emitted = |pod: &str, now| {
        correlator.correlate(occurrence(pod, "a", 0), SuppressedCount::default(), now).is_some()
    };
    let burst = (0..40).filter(|_| emitted("cart", now)).count();
    assert_eq!(burst, 25);
    assert!(emitted("other", now), "every pod has its own");
    now += SPAM_REFILL - Duration::from_secs(1);
    assert!(!emitted("cart", now));
    now += Duration::from_secs(1);
    assert!(emitted("cart", now));
    assert!(!emitted("cart", now));
    now += SPAM_REFILL * 100;
    let burst = (0..40).filter(|_| emitted("cart", now)).count();
    assert_eq!(burst, 25);
}

#[tokio::test(start_paused = true)]
async fn all_pods_of_a_node_share_what_it_may_ask_for() {
    let mut now = Instant::now();
    let mut correlator = Correlator::default();
    let emitted = |correlator: &mut Correlator, pods: u32, now| {
        let mut each = (0..pods).map(|pod| occurrence(&format!("pod-{pod}"), "a", 0));
        each.by_ref()
            .filter_map(|it| correlator.correlate(it, SuppressedCount::default(), now))
            .count()
    };
    assert_eq!(emitted(&mut correlator, 110, now), 100);
    now += NODE_REFILL * 5;
    assert_eq!(emitted(&mut correlator, 110, now), 5);
    now += NODE_REFILL * 1000;
    assert_eq!(emitted(&mut correlator, 110, now), 100);
    now += NODE_REFILL * 1000;
    // The node's lack took nothing of a pod's own share.
    let last = (0..40).filter(|_| {
        correlator
            .correlate(occurrence("pod-109", "a", 0), SuppressedCount::default(), now)
            .is_some()
    });
    assert_eq!(last.count(), 25);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_reported_still_counts() {
    let mut now = Instant::now();
    let mut correlator = Correlator::default();
    for _ in 0..30 {
        correlator.correlate(occurrence("cart", "a", 0), SuppressedCount::default(), now);
    }
    now += SPAM_REFILL;
    let emitted =
        correlator.correlate(occurrence("cart", "a", 300), SuppressedCount::default(), now);
    assert_eq!(emitted.unwrap().count, 31);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let now = Instant::now();
    let mut correlator = Correlator::default();
    for number in 0..2000 {
        let at = now + NODE_REFILL * number;
        let pod = format!("pod-{number}");
        correlator.correlate(occurrence(&pod, "a", 0), SuppressedCount::default(), at);
    }
    let sizes = (
        correlator.kinds.iter().count(),
        correlator.emitted.iter().count(),
        correlator.allowed.iter().count(),
    );
    assert_eq!(sizes, (REMEMBERED, REMEMBERED, REMEMBERED));
    // The pod that came last is still known.
    let later = now + NODE_REFILL * 2100;
    let again =
        correlator.correlate(occurrence("pod-1999", "a", 0), SuppressedCount::default(), later);
    assert!(again.unwrap().is_update);
}

#[test]
fn names_are_valid_however_long_the_pod() {
    let long = format!("{}-{}", "a".repeat(235), "b".repeat(17));
    let name = event_name(&long, time(0));
    assert!(name.len() <= LONGEST_NAME && name.starts_with("aaa"), "{name}");
    assert!(!name.contains("-."), "{name}");
    assert_eq!(event_name("cart", time(0)), "cart.18fae27693b40000");
}

/// Events of a kill each that the pod's or the node's share did not allow, are made up for
/// when it does; and none says more than what happened.
#[tokio::test(start_paused = true)]
async fn what_was_not_reported_is_made_up_for() {
    let mut now = Instant::now();
    let mut correlator = Correlator::default();
    let suppressed = SuppressedCount::default();
    let mut emitted = Vec::new();
    // All of the node's share, and then a pod that has three kills of three processes.
    for pod in 0..NODE_BURST {
        let occurrence = occurrence(&format!("pod-{pod}"), "a", 0);
        assert!(correlator.correlate(occurrence, SuppressedCount::default(), now).is_some());
    }
    for number in 0..3 {
        let occurrence = occurrence("cart", &format!("pid {number}"), number);
        emitted.extend(correlator.correlate(occurrence, suppressed.clone(), now));
    }
    assert_eq!(emitted, []);
    let behind = correlator.behind();
    assert_eq!(behind.len(), 1);
    let none = behind.into_iter().find_map(|one| correlator.catch_up(one, now));
    assert_eq!(none, None);
    now += NODE_REFILL * 2;
    let one = correlator.behind().remove(0);
    let made = correlator.catch_up(one, now).unwrap();
    assert_eq!((made.count, made.is_update), (3, false));
    assert_eq!(made.last, time(2), "the last one's, and not that of the request");
    assert_eq!(made.message, format!("{COMBINED}pid 2"));
    assert!(correlator.behind().is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_text_is_kept_for_the_next_time() {
    let now = Instant::now();
    let mut correlator = Correlator::default();
    let emitted = |correlator: &mut Correlator| {
        let occurrence = occurrence("cart", "a", 0);
        correlator.correlate(occurrence, SuppressedCount::default(), now).unwrap()
    };
    let mut first = emitted(&mut correlator);
    correlator.append(&mut first, " and b");
    assert_eq!(first.message, "a and b");
    let key = (first.about.clone(), first.reason, first.text);
    assert_eq!(correlator.emitted.get_mut(&key).unwrap().message, "a and b");
    correlator.append(&mut first, &"c".repeat(2000));
    assert_eq!(first.message.len(), message::LONGEST);
}

/// In a storm all over the node each pod gets its first Event before any gets another.
#[tokio::test(start_paused = true)]
async fn what_goes_on_leaves_something_for_what_is_new() {
    let now = Instant::now();
    let mut correlator = Correlator::default();
    let mut emitted = |pod: u32, text: &str| {
        let occurrence = occurrence(&format!("pod-{pod}"), text, 0);
        correlator.correlate(occurrence, SuppressedCount::default(), now).is_some()
    };
    for pod in 0..20 {
        for text in ["a", "b", "c"] {
            emitted(pod, text);
        }
    }
    let first = (20..60).filter(|pod| emitted(*pod, "a")).count();
    assert_eq!(first, 40);
    let again = (20..60).filter(|pod| emitted(*pod, "b")).count();
    assert_eq!(again, 0);
}
