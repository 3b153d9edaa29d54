//! Whether a kill gets an Event of its own, decided before the Event is built.
//!
//! In a storm nearly all kills resemble recent ones. They are only counted, in
//! a number that the core shares with the writer of Events, and the writer adds it to the
//! last Event of the kind from time to time. So a kill without an Event costs the core a lookup.

use super::{Reason, recent::Recent};
use herder_model::owner::id::PodUid;
use jiff::Timestamp;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Kills of one kind that get an Event each. They differ in the process alone, and three
/// show whether it is always the same; client-go emits ten of them.
pub const SINGLE: u32 = 3;

/// A pause this long ends that (`defaultAggregateIntervalInSeconds` of client-go).
pub const QUIET: Duration = Duration::from_secs(600);

/// How often something happened without an Event, and when last. Shared by the core and the writer.
#[derive(Clone, Debug, Default)]
pub struct SuppressedCount(Arc<Suppressed>);

#[derive(Debug, Default)]
struct Suppressed {
    count: AtomicU32,
    /// Seconds since 1970, all that an Event has.
    last: AtomicI64,
}

impl SuppressedCount {
    /// One more; says whether it is the first since it was last looked at.
    fn add(&self, time: Timestamp) -> bool {
        self.0.last.fetch_max(time.as_second(), Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Release) == 0
    }

    /// How often, and when last; emitted now.
    pub(super) fn take(&self) -> (u32, Timestamp) {
        let count = self.0.count.swap(0, Ordering::Acquire);
        let last = Timestamp::from_second(self.0.last.load(Ordering::Relaxed));
        (count, last.unwrap_or_default())
    }

    /// Whether it is the same number.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it has another owner.
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// What is to be done about a kill.
#[derive(Debug)]
pub enum Pass {
    /// It gets an Event, together with what comes after it.
    Emit(SuppressedCount),
    /// It was only counted, perhaps as the first since the last Event.
    Counted {
        /// The writer does not know yet.
        first: bool,
    },
}

/// What passed. Of a kind the hash is enough: were two the same, an Event would count some
/// of the other's.
#[derive(Debug, Default)]
pub struct Gate {
    kinds: Recent<u64, Kind>,
}

#[derive(Debug)]
struct Kind {
    emitted: u32,
    last: Instant,
    suppressed: SuppressedCount,
}

impl Gate {
    /// Decides about a kill in this container, which happened at this time.
    pub fn pass(
        &mut self,
        pod: PodUid,
        container: &str,
        reason: Reason,
        time: Timestamp,
        now: Instant,
    ) -> Pass {
        let mut hasher = DefaultHasher::new();
        (pod, container, reason).hash(&mut hasher);
        let new = || Kind { emitted: 0, last: now, suppressed: SuppressedCount::default() };
        let kind = self.kinds.entry(hasher.finish(), now, new);
        // A number without another owner was dropped, failed, or is long ago.
        if now - kind.last > QUIET || !kind.suppressed.is_shared() {
            *kind = new();
        }
        kind.last = now;
        if kind.emitted < SINGLE {
            kind.emitted += 1;
            return Pass::Emit(kind.suppressed.clone());
        }
        Pass::Counted { first: kind.suppressed.add(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(end: &str) -> PodUid {
        PodUid::parse(&format!("2c39abf0-f543-4c05-8cfe-3839410aef{end}")).unwrap()
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    const KILLED: Reason = Reason::SubprocessOomKilled;

    #[tokio::test(start_paused = true)]
    async fn some_are_logged_and_the_rest_is_counted() {
        let (mut gate, mut now) = (Gate::default(), Instant::now());
        let mut writer = Vec::new();
        for (pod, container, reason) in [
            (pod("01"), "main", KILLED),
            (pod("02"), "main", KILLED),
            (pod("01"), "side", KILLED),
            (pod("01"), "main", Reason::ContainerInitOomKilled),
        ] {
            let mut firsts = Vec::new();
            // Kills are not always reported in their order.
            for second in [1, 2, 3, 4, 5, 6, 7, 9, 8, 0] {
                match gate.pass(pod, container, reason, time(second), now) {
                    Pass::Emit(suppressed) => writer.push(suppressed),
                    Pass::Counted { first } => firsts.push(first),
                }
            }
            assert_eq!(firsts, [true, false, false, false, false, false, false]);
            assert_eq!(
                writer.last().map(SuppressedCount::take),
                Some((7, time(9))),
                "of all that share it"
            );
        }
        assert_eq!(writer.len(), 4 * SINGLE as usize);
        assert_eq!(writer[2].take().0, 0, "the writer has it all");
        now += QUIET + Duration::from_secs(1);
        assert!(matches!(gate.pass(pod("01"), "main", KILLED, time(9), now), Pass::Emit(_)));
    }

    /// The queue was full, the server did not take it, or it was too long ago: whatever
    /// became of the Event, occurrences that could not be counted up get a new Event.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_counted_for_a_writer_that_does_not_know_of_it() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        for _ in 0..10 {
            assert!(matches!(gate.pass(pod("01"), "main", KILLED, time(9), now), Pass::Emit(_)));
        }
    }
}
