//! Containers for which another plugin wants another value. NRI lets only one plugin set
//! it, and the runtime refuses to create the container if a second one does. It does not
//! report the refusal to the plugins. But a container that all plugins agreed on leaves a
//! trace: the runtime reports its creation, or, where that fails for another reason such as a
//! missing command, it got a cgroup before. So a container without a trace, whose creation is
//! requested again, was refused.

use herder_model::owner::id::PodUid;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// Of more, all are forgotten: each that is contested then costs one more try. Else those of
/// pods that are long gone would keep others from ever being made.
const MOST: usize = 1024;

/// So long a container is left to the cgroup. Then one more try shows whether the other
/// plugin is still there.
const LEFT_ALONE: Duration = Duration::from_secs(10 * 60);

/// By pod and name: the kubelet makes a container that could not be made once more under
/// another ID.
#[derive(Debug, Default)]
pub(super) struct Contested(HashMap<(PodUid, Box<str>), Try>);

/// The last try to make a container, as long as it matters how that went.
#[derive(Debug)]
struct Try {
    id: Box<str>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value was set, and the container has left no trace since.
    Set,
    /// The value before was refused. None was set, and the container has left no trace since.
    Without,
    /// It was made without a value, and not with one.
    Contested { until: Instant },
}

impl Contested {
    /// Whether a value is better not set in a new container. If not, it is taken to be set.
    pub(super) fn record_attempt(
        &mut self,
        pod: PodUid,
        container: &str,
        id: &str,
        now: Instant,
    ) -> bool {
        let key = (pod, container.into());
        let state = match self.0.get(&key).map(|last| last.state) {
            Some(State::Set) => State::Without,
            Some(State::Contested { until }) if now < until => State::Contested { until },
            // What was not made without a value either fails for another reason.
            Some(State::Without | State::Contested { .. }) | None => State::Set,
        };
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.insert(key, Try { id: id.into(), state });
        state != State::Set
    }

    /// The ID of the last try, as long as it matters how that went.
    pub(super) fn last(&self, pod: PodUid, container: &str) -> Option<Box<str>> {
        Some(self.0.get(&(pod, container.into()))?.id.clone())
    }

    /// All plugins have agreed on a container: it was made, or failed for a reason of its own.
    pub(super) fn agreed(&mut self, pod: PodUid, container: &str, id: &str, now: Instant) {
        let key = (pod, container.into());
        // One that was made earlier may be reported while the next is being made.
        let Some(last) = self.0.get_mut(&key).filter(|last| *last.id == *id) else { return };
        match last.state {
            State::Set => {
                self.0.remove(&key);
            }
            State::Without => last.state = State::Contested { until: now + LEFT_ALONE },
            State::Contested { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> PodUid {
        PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap()
    }

    /// One container of one pod, whose tries are numbered.
    struct Tries {
        contested: Contested,
        now: Instant,
        number: u32,
    }

    impl Tries {
        fn new() -> Self {
            Tries { contested: Contested::default(), now: Instant::now(), number: 0 }
        }

        /// Whether the next try gets a value, if plugins then agree or not.
        fn next(&mut self, agree: impl Fn(bool) -> bool) -> bool {
            self.number += 1;
            let id = self.number.to_string();
            let set = !self.contested.record_attempt(uid(), "worker", &id, self.now);
            if agree(set) {
                self.contested.agreed(uid(), "worker", &id, self.now);
            }
            set
        }
    }

    #[test]
    fn what_another_plugin_refuses_is_made_without_a_value_for_a_while() {
        let mut tries = Tries::new();
        let refuses = |set: bool| !set;
        assert!(tries.next(refuses), "the first time");
        for _ in 0..10 {
            assert!(!tries.next(refuses), "it would not be made");
        }
        tries.now += LEFT_ALONE;
        assert_eq!([0; 3].map(|_| tries.next(refuses)), [true, false, false], "one try more");
        tries.now += LEFT_ALONE;
        assert_eq!([0; 3].map(|_| tries.next(|_| true)), [true; 3], "the other one is gone");
    }

    #[test]
    fn what_fails_for_another_reason_is_not_contested() {
        let mut tries = Tries::new();
        for _ in 0..100 {
            assert!(tries.next(|_| true), "it was made, and did not start");
        }
        // No container leaves a trace, neither with a value nor without.
        let heard_of_nothing = [0; 6].map(|_| tries.next(|_| false));
        assert_eq!(heard_of_nothing, [true, false, true, false, true, false]);
        assert_eq!([0; 3].map(|_| tries.next(|_| true)), [true; 3]);
    }

    #[test]
    fn the_end_of_an_earlier_one_says_nothing_of_the_next() {
        let mut contested = Contested::default();
        let now = Instant::now();
        assert!(!contested.record_attempt(uid(), "worker", "1", now));
        contested.agreed(uid(), "worker", "1", now);
        assert!(!contested.record_attempt(uid(), "worker", "2", now));
        contested.agreed(uid(), "worker", "1", now);
        assert!(contested.record_attempt(uid(), "worker", "3", now), "the second was refused");
        assert!(!contested.record_attempt(uid(), "sidecar", "4", now), "another one");
    }

    #[test]
    fn no_more_are_remembered_than_fit() {
        let mut contested = Contested::default();
        let now = Instant::now();
        for number in 0..MOST * 2 {
            let name = number.to_string();
            assert!(!contested.record_attempt(uid(), &name, "1", now));
            assert!(
                contested.record_attempt(uid(), &name, "2", now),
                "{number} is made in the end"
            );
            assert!(contested.0.len() <= MOST);
        }
    }
}
