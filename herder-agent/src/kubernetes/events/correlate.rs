//! Which occurrences become new Events, which only count an Event up, and which are
//! not emitted at all. Pure.
//!
//! It does what client-go's `EventCorrelator` does for the kubelet
//! (tools/record/events_cache.go, client-go 0.36), with its constants, and lets a node ask
//! for less. An occurrence that is not emitted at its time is still counted, and the last Event
//! of its kind gets the count as soon as the shares of its pod and of the node allow.

use super::{About, Occurrence, Reason, gate::SuppressedCount, message, recent::Recent};
use herder_model::bucket::Bucket;
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
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

/// What of these is only for the first Event about something: that the other pods of the
/// node are hit too says more than how one goes on.
pub const NODE_RESERVE: u32 = NODE_BURST / 2;

/// Time for one more. The kubelet allows itself 50 a second (`eventRecordQPS`, 1.27), but
/// when all nodes of a cluster run out of memory together, their agents share one API
/// server (docs/scale.md).
pub const NODE_REFILL: Duration = Duration::from_secs(5);

/// So many different texts for one reason, and they are combined into one
/// (`defaultAggregateMaxEvents`).
pub const SIMILAR: usize = 10;

/// A pause this long ends the combination
/// (`defaultAggregateIntervalInSeconds`).
pub const SIMILAR_WITHIN: Duration = Duration::from_secs(600);

/// The shortest interval at which an Event is counted up for suppressed occurrences.
pub const UPDATE_EVERY: Duration = Duration::from_secs(10);

/// `combined` messages begin so, in client-go as here.
const COMBINED: &str = "(combined from similar events): ";

/// The longest name of an object (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `metadata.name`.
    pub name: String,
    pub about: About,
    pub reason: Reason,
    pub message: String,
    pub count: u32,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Whether an Event of this name was written before, so that it only needs to be
    /// changed.
    pub is_update: bool,
    text: Text,
}

/// Remembers what was emitted.
#[derive(Debug, Default)]
pub struct Correlator {
    kinds: Recent<(About, Reason), Kind>,
    emitted: Recent<(About, Reason, Text), Emitted>,
    allowed: Recent<About, Bucket<Instant>>,
    node: Option<Bucket<Instant>>,
}

/// A text, or the combination of many. Of a text the hash is enough: were two
/// the same, an Event would count one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Text {
    One(u64),
    Combined,
}

/// An Event that says less than what happened.
#[derive(Debug)]
pub struct Behind {
    pub at: Instant,
    key: (About, Reason, Text),
    /// There were other texts.
    several: bool,
}

/// What happens to one container, for one reason.
#[derive(Debug)]
struct Kind {
    texts: BTreeSet<u64>,
    last: Instant,
    /// Whose Event counts what was suppressed.
    current: Text,
    suppressed: SuppressedCount,
    /// An Event of it was emitted just now.
    has_event: bool,
}

#[derive(Debug)]
struct Emitted {
    name: String,
    message: String,
    first: Timestamp,
    /// Of all that are counted.
    last: Timestamp,
    count: u32,
    /// The count that its Event has; 0 as long as there is none.
    written: u32,
    at: Instant,
}

impl Emitted {
    /// What has no Event, and will have none.
    fn take_unwritten(&mut self) -> u32 {
        if self.written == 0 { std::mem::take(&mut self.count) } else { 0 }
    }

    /// The Event as it is to be now.
    fn outgoing(&mut self, key: (About, Reason, Text), message: String, now: Instant) -> Outgoing {
        let (about, reason, text) = key;
        let is_update = self.written > 0;
        self.written = self.count;
        self.at = now;
        let Emitted { count, first, last, .. } = *self;
        let name = self.name.clone();
        Outgoing { name, about, reason, message, count, first, last, is_update, text }
    }
}

impl Correlator {
    /// What to write for an occurrence; none if its pod's share or the node's is used up.
    /// What is like it and not handed in is counted by `suppressed`.
    pub fn correlate(
        &mut self,
        occurrence: Occurrence,
        suppressed: SuppressedCount,
        now: Instant,
    ) -> Option<Outgoing> {
        let Occurrence { about, reason, message, time, left: _ } = occurrence;
        let before = self.before(&(about.clone(), reason), &suppressed);
        let (text, message) = self.combine(&about, reason, message::fit(message), suppressed, now);
        let key = (about.clone(), reason, text);
        let more = before.filter(|before| *before != text).map_or(0, |before| {
            self.emitted
                .get_mut(&(about.clone(), reason, before))
                .map_or(0, Emitted::take_unwritten)
        });
        let emitted = self.emitted.entry(key.clone(), now, || Emitted {
            name: event_name(&about.pod, time),
            message: String::new(),
            first: time,
            last: time,
            count: 0,
            written: 0,
            at: now,
        });
        emitted.count = emitted.count.saturating_add(more).saturating_add(1);
        // Kills are not always reported in their order.
        emitted.first = emitted.first.min(time);
        emitted.last = emitted.last.max(time);
        emitted.message.clone_from(&message);
        if !self.allow(about, reason, now) {
            return None;
        }
        Some(self.emitted.get_mut(&key)?.outgoing(key, message, now))
    }

    /// More text for what was just made, which could not be known before.
    pub fn append(&mut self, outgoing: &mut Outgoing, more: &str) {
        outgoing.message = message::fit(std::mem::take(&mut outgoing.message) + more);
        let key = (outgoing.about.clone(), outgoing.reason, outgoing.text);
        if let Some(emitted) = self.emitted.get_mut(&key) {
            emitted.message.clone_from(&outgoing.message);
        }
    }

    /// Events that say less than what happened, the longest unchanged first.
    pub fn behind(&mut self) -> Vec<Behind> {
        let kinds: Vec<_> = self.kinds.iter().map(|(key, _)| key.clone()).collect();
        let mut behind = Vec::new();
        for kind in kinds {
            let Some(current) = self.settle(&kind) else { continue };
            let several = self.kinds.get_mut(&kind).is_some_and(|kind| kind.texts.len() > 1);
            let key = (kind.0, kind.1, current);
            if let Some(emitted) = self.emitted.get_mut(&key)
                && emitted.count > emitted.written
            {
                behind.push(Behind { at: emitted.at, key, several });
            }
        }
        behind.sort_by_key(|one| one.at);
        behind
    }

    /// How one of them is to be now; none if its pod's share or the node's is used up.
    pub fn catch_up(&mut self, one: Behind, now: Instant) -> Option<Outgoing> {
        let Behind { key, several, .. } = one;
        if !self.allow(key.0.clone(), key.1, now) {
            return None;
        }
        let emitted = self.emitted.get_mut(&key)?;
        let message = match several && !emitted.message.starts_with(COMBINED) {
            true => message::fit(format!("{COMBINED}{}", emitted.message)),
            false => emitted.message.clone(),
        };
        Some(emitted.outgoing(key, message, now))
    }

    /// An Event could not be written: the next of its kind starts anew.
    pub fn forget(&mut self, outgoing: &Outgoing) {
        let kind = (outgoing.about.clone(), outgoing.reason);
        self.emitted.remove(&(kind.0.clone(), kind.1, outgoing.text));
        // With its count, so that the next is not only counted.
        self.kinds.remove(&kind);
    }

    /// Whose Event was the last. What was only counted until now is its own, unless that
    /// goes on.
    fn before(&mut self, kind: &(About, Reason), suppressed: &SuppressedCount) -> Option<Text> {
        let before = self.kinds.get_mut(kind)?;
        if before.suppressed.is(suppressed) { Some(before.current) } else { self.settle(kind) }
    }

    /// Takes over what was only counted, and returns whose it is.
    fn settle(&mut self, kind: &(About, Reason)) -> Option<Text> {
        let Kind { current, suppressed, .. } = self.kinds.get_mut(kind)?;
        let emitted = self.emitted.get_mut(&(kind.0.clone(), kind.1, *current))?;
        let (count, last) = suppressed.take();
        emitted.count = emitted.count.saturating_add(count);
        emitted.last = emitted.last.max(last);
        Some(*current)
    }

    fn combine(
        &mut self,
        about: &About,
        reason: Reason,
        message: String,
        suppressed: SuppressedCount,
        now: Instant,
    ) -> (Text, String) {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let text = hasher.finish();
        let kind = self.kinds.entry((about.clone(), reason), now, || Kind {
            texts: BTreeSet::new(),
            last: now,
            current: Text::Combined,
            has_event: false,
            suppressed: SuppressedCount::default(),
        });
        if now.saturating_duration_since(kind.last) > SIMILAR_WITHIN {
            kind.texts.clear();
            kind.has_event = false;
        }
        kind.last = now;
        kind.suppressed = suppressed;
        kind.texts.insert(text);
        if kind.texts.len() < SIMILAR {
            kind.current = Text::One(text);
            return (kind.current, message);
        }
        // Full it stays, and no fuller.
        kind.texts.pop_first();
        kind.current = Text::Combined;
        (Text::Combined, message::fit(format!("{COMBINED}{message}")))
    }

    /// A request takes one of the pod's share and one of the node's, of which some is kept
    /// for what does not only go on.
    fn allow(&mut self, about: About, reason: Reason, now: Instant) -> bool {
        let kind = (about, reason);
        let goes_on = self.kinds.get_mut(&kind).is_some_and(|kind| kind.has_event);
        let mut about = kind.0.clone();
        about.container = None;
        let pod = self.allowed.entry(about, now, || Bucket::full(SPAM_BURST, now));
        let of_pod = pod.refill(SPAM_BURST, SPAM_REFILL, now);
        let node = self.node.get_or_insert_with(|| Bucket::full(NODE_BURST, now));
        let of_node = node.refill(NODE_BURST, NODE_REFILL, now);
        let reserve = if goes_on { NODE_RESERVE } else { 0 };
        let allowed = of_pod > 0 && of_node > reserve && pod.take() && node.take();
        if let Some(kind) = self.kinds.get_mut(&kind) {
            kind.has_event |= allowed;
        }
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

#[cfg(test)]
mod tests;
