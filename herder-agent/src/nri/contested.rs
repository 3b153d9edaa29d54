//! Containers for which another plugin wants another value. NRI lets only one plugin set
//! it, and refuses to make the container if a second one does. A plugin cannot see whether
//! what it finds is the kubelet's or another plugin's; but if a container that was
//! answered never starts, and is made once more, the answer may have been the reason.

use crate::attribution::id::PodUid;
use std::collections::HashMap;

/// Of more, all are forgotten: each that is contested then costs one more try. Else those of
/// pods that are long gone would keep others from ever being made.
const MOST: usize = 1024;

/// By pod and name: the kubelet makes a container that could not be made once more under
/// another ID.
#[derive(Debug, Default)]
pub(super) struct Contested(HashMap<(PodUid, Box<str>), State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was answered, and has not started.
    Tried,
    /// It did not start, and is answered no more as long as the connection lasts.
    GivenUp,
}

impl Contested {
    /// Whether an answer that contradicts what was found is better not given. If not, it
    /// is taken to be given.
    pub(super) fn is(&mut self, pod: PodUid, container: &str) -> bool {
        let key = (pod, container.into());
        if let Some(state) = self.0.get_mut(&key) {
            *state = State::GivenUp;
            return true;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(key, State::Tried);
        false
    }

    /// It has started, so nobody minded.
    pub(super) fn started(&mut self, pod: PodUid, container: &str) {
        let key = (pod, container.into());
        if self.0.get(&key) == Some(&State::Tried) {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_starts_is_answered_once() {
        let pod = PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap();
        let mut contested = Contested::default();
        assert!(!contested.is(pod, "worker"), "the first time");
        assert!(contested.is(pod, "worker"), "it was not made");
        contested.started(pod, "worker");
        assert!(contested.is(pod, "worker"), "it would not be made again");
        assert!(!contested.is(pod, "sidecar"));
        contested.started(pod, "sidecar");
        assert!(!contested.is(pod, "sidecar"), "it had started");
    }

    #[test]
    fn no_more_are_remembered_than_fit() {
        let pod = PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap();
        let mut contested = Contested::default();
        for number in 0..MOST * 2 {
            assert!(!contested.is(pod, &number.to_string()));
            assert!(contested.is(pod, &number.to_string()), "{number} is made in the end");
            assert!(contested.0.len() <= MOST);
        }
    }
}
