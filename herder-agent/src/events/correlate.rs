//! Which occurrences become new Events, which only count one up, and which are
//! not told at all. Pure.
//!
//! It does what client-go's `EventCorrelator` does for the kubelet
//! (tools/record/events_cache.go, client-go 0.36), with its constants: an
//! endless kill loop in one pod costs the API server 25 requests and then one
//! every five minutes.

use super::{About, Occurrence, Reason, message};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::time::Instant;

/// Requests for one pod at once (`defaultSpamBurst`).
pub const SPAM_BURST: u32 = 25;

/// Time for one more (`defaultSpamQPS` is 1/300 per second).
pub const SPAM_REFILL: Duration = Duration::from_secs(300);

/// Requests of a node at once, for all of its pods.
pub const NODE_BURST: u32 = 100;

/// Time for one more. The kubelet allows itself 50 a second (`eventRecordQPS`, 1.27), but
/// when all nodes of a cluster run out of memory together, their agents share one API
/// server (docs/scale.md).
pub const NODE_REFILL: Duration = Duration::from_secs(1);

/// So many different texts for one reason, and they are combined into one
/// (`defaultAggregateMaxEvents`).
pub const SIMILAR: usize = 10;

/// A pause this long ends the combination
/// (`defaultAggregateIntervalInSeconds`).
pub const SIMILAR_WITHIN: Duration = Duration::from_secs(600);

/// Entries of each memory; the longest unused goes first. client-go keeps 4096
/// for the events of a whole node, of which this agent's are the rarest.
pub const REMEMBERED: usize = 512;

/// `combined` messages begin so, in client-go as here.
const COMBINED: &str = "(combined from similar events): ";

/// The longest name of an object (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `metadata.name`.
    pub name: String,
    /// What it is about.
    pub about: About,
    /// Its reason.
    pub reason: Reason,
    /// Its text.
    pub message: String,
    /// How often it happened.
    pub count: u32,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

impl Outgoing {
    /// Whether an Event of this name was written before, so that it only needs
    /// to be changed.
    pub fn is_update(&self) -> bool {
        self.count > 1
    }
}

/// The memory of what was told.
#[derive(Debug, Default)]
pub struct Correlator {
    similar: Recent<(About, Reason), Similar>,
    told: Recent<(About, Reason, Text), Told>,
    allowed: Recent<About, Share>,
    node: Option<Share>,
}

/// A text, or the combination of many. Of a text the hash is enough: were two
/// the same, an Event would count one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Text {
    One(u64),
    Combined,
}

#[derive(Debug)]
struct Similar {
    texts: BTreeSet<u64>,
    last: Instant,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: u32,
    first: Timestamp,
}

/// Requests that are allowed now, and since when there was one more.
#[derive(Debug)]
struct Share {
    requests: u32,
    refilled: Instant,
}

impl Share {
    fn whole(burst: u32, now: Instant) -> Self {
        Share { requests: burst, refilled: now }
    }

    fn refill(&mut self, burst: u32, every: Duration, now: Instant) {
        while self.requests < burst && now >= self.refilled + every {
            self.requests += 1;
            self.refilled += every;
        }
        if self.requests == burst {
            self.refilled = now;
        }
    }
}

impl Correlator {
    /// What to write for an occurrence; none if the pod's share is
    /// used up.
    pub fn correlate(&mut self, occurrence: Occurrence, now: Instant) -> Option<Outgoing> {
        let Occurrence { about, reason, message, time, left: _ } = occurrence;
        let message = message::fit(message);
        let (text, message) = self.combine(&about, reason, message, now);
        let told = self.told.entry((about.clone(), reason, text), now, || Told {
            name: event_name(&about.pod, time),
            count: 0,
            first: time,
        });
        told.count = told.count.saturating_add(1);
        let outgoing = Outgoing {
            name: told.name.clone(),
            reason,
            message,
            count: told.count,
            first: told.first,
            last: time,
            about: about.clone(),
        };
        self.allow(about, now).then_some(outgoing)
    }

    /// An Event could not be written: the next of its kind starts anew.
    pub fn forget(&mut self, outgoing: &Outgoing) {
        self.told.entries.retain(|_, (told, _)| told.name != outgoing.name);
    }

    fn combine(
        &mut self,
        about: &About,
        reason: Reason,
        message: String,
        now: Instant,
    ) -> (Text, String) {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let text = hasher.finish();
        let similar = self
            .similar
            .entry((about.clone(), reason), now, || Similar { texts: BTreeSet::new(), last: now });
        if now.saturating_duration_since(similar.last) > SIMILAR_WITHIN {
            similar.texts.clear();
        }
        similar.last = now;
        similar.texts.insert(text);
        if similar.texts.len() < SIMILAR {
            return (Text::One(text), message);
        }
        // Full it stays, and no fuller.
        similar.texts.pop_first();
        (Text::Combined, message::fit(format!("{COMBINED}{message}")))
    }

    /// A request takes one of the pod's share and one of the node's.
    fn allow(&mut self, mut about: About, now: Instant) -> bool {
        about.container = None;
        let pod = self.allowed.entry(about, now, || Share::whole(SPAM_BURST, now));
        pod.refill(SPAM_BURST, SPAM_REFILL, now);
        let node = self.node.get_or_insert_with(|| Share::whole(NODE_BURST, now));
        node.refill(NODE_BURST, NODE_REFILL, now);
        let allowed = pod.requests > 0 && node.requests > 0;
        pod.requests -= u32::from(allowed);
        node.requests -= u32::from(allowed);
        allowed
    }
}

/// `<pod>.<time in hexadecimal nanoseconds>`, as client-go names Events; the
/// pod's name is cut where the whole would be too long.
fn event_name(pod: &str, time: Timestamp) -> String {
    let suffix = format!(".{:x}", time.as_nanosecond());
    let room = pod.floor_char_boundary(LONGEST_NAME - suffix.len().min(LONGEST_NAME));
    let pod = pod.get(..room).unwrap_or_default();
    format!("{}{suffix}", pod.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// A map of the entries used last.
#[derive(Debug)]
struct Recent<K, V> {
    entries: HashMap<K, (V, Instant)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn entry(&mut self, key: K, now: Instant, new: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= REMEMBERED && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        let (value, used) = self.entries.entry(key).or_insert_with(|| (new(), now));
        *used = now;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attribution::id::PodUid, pods::ContainerKind};

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
        let mut tell = |text, at| correlator.correlate(occurrence("cart", text, at), now);
        let first = tell("a", 0).unwrap();
        assert_eq!((first.count, first.is_update()), (1, false));
        let again = tell("a", 5).unwrap();
        assert_eq!((again.count, again.is_update()), (2, true));
        assert_eq!((&again.name, again.first), (&first.name, time(0)));
        assert_eq!(again.last, time(5));
        let other = tell("b", 6).unwrap();
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
            let told = correlator.correlate(occurrence("cart", &text, number), now).unwrap();
            if told.message == format!("{COMBINED}{text}") {
                combined.push((number, told.count));
            } else {
                assert_eq!((told.message, told.count), (text, 1));
            }
        }
        assert_eq!(combined, [(9, 1), (10, 2), (11, 3)]);
        now += SIMILAR_WITHIN + Duration::from_secs(1);
        let told = correlator.correlate(occurrence("cart", "pid 99", 700), now);
        assert_eq!(told.unwrap().message, "pid 99");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_a_share_and_gets_more_with_time() {
        let mut now = Instant::now();
        let mut correlator = Correlator::default();
        let mut told =
            |pod: &str, now| correlator.correlate(occurrence(pod, "a", 0), now).is_some();
        let burst = (0..40).filter(|_| told("cart", now)).count();
        assert_eq!(burst, 25);
        assert!(told("other", now), "every pod has its own");
        now += SPAM_REFILL - Duration::from_secs(1);
        assert!(!told("cart", now));
        now += Duration::from_secs(1);
        assert!(told("cart", now));
        assert!(!told("cart", now));
        now += SPAM_REFILL * 100;
        let burst = (0..40).filter(|_| told("cart", now)).count();
        assert_eq!(burst, 25);
    }

    #[tokio::test(start_paused = true)]
    async fn all_pods_of_a_node_share_what_it_may_ask_for() {
        let mut now = Instant::now();
        let mut correlator = Correlator::default();
        let told = |correlator: &mut Correlator, pods: u32, now| {
            let mut each = (0..pods).map(|pod| occurrence(&format!("pod-{pod}"), "a", 0));
            each.by_ref().filter_map(|it| correlator.correlate(it, now)).count()
        };
        assert_eq!(told(&mut correlator, 110, now), 100);
        now += NODE_REFILL * 5;
        assert_eq!(told(&mut correlator, 110, now), 5);
        now += NODE_REFILL * 1000;
        assert_eq!(told(&mut correlator, 110, now), 100);
        now += NODE_REFILL * 1000;
        // The node's lack took nothing of a pod's own share.
        let last =
            (0..40).filter(|_| correlator.correlate(occurrence("pod-109", "a", 0), now).is_some());
        assert_eq!(last.count(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_told_still_counts() {
        let mut now = Instant::now();
        let mut correlator = Correlator::default();
        for _ in 0..30 {
            correlator.correlate(occurrence("cart", "a", 0), now);
        }
        now += SPAM_REFILL;
        let told = correlator.correlate(occurrence("cart", "a", 300), now);
        assert_eq!(told.unwrap().count, 31);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let now = Instant::now();
        let mut correlator = Correlator::default();
        for number in 0..2000 {
            let at = now + Duration::from_secs(number);
            let pod = format!("pod-{number}");
            correlator.correlate(occurrence(&pod, "a", 0), at);
        }
        let sizes = (
            correlator.similar.entries.len(),
            correlator.told.entries.len(),
            correlator.allowed.entries.len(),
        );
        assert_eq!(sizes, (REMEMBERED, REMEMBERED, REMEMBERED));
        // Who came last is still known.
        let again = correlator.correlate(occurrence("pod-1999", "a", 0), now);
        assert!(again.unwrap().is_update());
    }

    #[test]
    fn names_are_valid_however_long_the_pod() {
        let long = format!("{}-{}", "a".repeat(235), "b".repeat(17));
        let name = event_name(&long, time(0));
        assert!(name.len() <= LONGEST_NAME && name.starts_with("aaa"), "{name}");
        assert!(!name.contains("-."), "{name}");
        assert_eq!(event_name("cart", time(0)), "cart.18fae27693b40000");
    }
}
