//! A map that is bounded: it keeps the entries used last.

use std::{collections::HashMap, hash::Hash};
use tokio::time::Instant;

/// Entries of each; the longest unused goes first. client-go keeps 4096 for the events of a
/// whole node, of which this agent's are the rarest.
pub(super) const REMEMBERED: usize = 512;

#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (V, Instant)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// The entry of this key, made if it is new.
    pub(super) fn entry(&mut self, key: K, now: Instant, new: impl FnOnce() -> V) -> &mut V {
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

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    /// The entry of this key, if there is one; that is no use of it.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_longest_unused_goes_first() {
        let (mut recent, begin) = (Recent::default(), Instant::now());
        for number in 0..REMEMBERED + 10 {
            let now = begin + Duration::from_secs(number as u64);
            recent.entry(number, now, || number);
            recent.entry(0, now, || 0);
        }
        assert_eq!(recent.iter().count(), REMEMBERED);
        assert_eq!(recent.get_mut(&0), Some(&mut 0));
        assert_eq!(recent.get_mut(&1), None);
        assert!(recent.get_mut(&(REMEMBERED + 9)).is_some());
    }
}
