//! Watches in which nothing was heard: the server's own versions may be older than the last one
//! seen, because its etcd was restored. It then passes no change on, and no bookmark, until it has
//! come that far again (`cacheWatcher.process()`, apiserver/pkg/storage/cacher/cache_watcher.go).

use std::time::Duration;

/// So many watches one after the other that end at once, and the pods are listed anew.
const MOST: u32 = 3;

/// A watch that ends within that time has ended at once.
const SHORT: Duration = Duration::from_secs(1);

/// A server that has the version sends a bookmark each minute (`defaultBookmarkFrequency`,
/// apiserver/pkg/storage/cacher/cacher.go). It is a little less than the silence that ends a watch.
const BOOKMARKS: Duration = Duration::from_secs(140);

/// What is between may cut all watches before a bookmark is due, for ever. So the silence after which
/// the pods are listed is doubled each time, up to this.
const LONGEST: Duration = Duration::from_secs(3600);

/// What there was of them, one after the other.
#[derive(Debug)]
pub(super) struct Unheard {
    at_once: u32,
    /// How long they lasted together. What is between may cut them before a bookmark is due.
    silence: Duration,
    /// How long they may.
    patience: Duration,
}

impl Default for Unheard {
    fn default() -> Self {
        Unheard { at_once: 0, silence: Duration::ZERO, patience: BOOKMARKS }
    }
}

impl Unheard {
    /// A line was heard. One of a list says nothing of the watches that go on from its version.
    pub(super) fn heard(&mut self, in_list: bool) {
        self.anew();
        if !in_list {
            self.patience = BOOKMARKS;
        }
    }

    fn anew(&mut self) {
        (self.at_once, self.silence) = (0, Duration::ZERO);
    }

    /// A watch has ended in good order after so long, with or without a line. Gives the reason to
    /// list the pods anew, if there is one.
    pub(super) fn ended(&mut self, lasted: Duration, heard: bool) -> Option<&'static str> {
        self.at_once = if lasted < SHORT { self.at_once + 1 } else { 0 };
        if self.at_once >= MOST {
            self.anew();
            return Some("the API server ends each watch at once");
        }
        self.cut(lasted, heard)
    }

    /// The same for a watch that broke off.
    pub(super) fn cut(&mut self, lasted: Duration, heard: bool) -> Option<&'static str> {
        if !heard {
            self.silence += lasted;
        }
        // Then bookmarks are missing for certain, and nothing has cut it early.
        let is_certain = !heard && lasted >= BOOKMARKS;
        if !is_certain && self.silence < self.patience {
            return None;
        }
        self.anew();
        if !is_certain {
            self.patience = (self.patience * 2).min(LONGEST);
        }
        Some("the API server had neither a change nor a bookmark for long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it lasted, whether something was heard, and why the pods are then listed anew.
    type Watch = (Duration, bool, Option<&'static str>);

    #[test]
    fn pods_are_listed_anew_when_nothing_is_heard() {
        let (none, short) = (Duration::ZERO, Some("the API server ends each watch at once"));
        let long = Some("the API server had neither a change nor a bookmark for long");
        let (minutes, second) = (Duration::from_secs(290), Duration::from_secs(2));
        let minute = Duration::from_secs(60);
        let table: &[(&str, &[Watch])] = &[
            ("at once", &[(none, false, None), (none, false, None), (none, false, short)]),
            (
                "with a longer one",
                &[(none, false, None), (second, false, None), (none, false, None)],
            ),
            ("as usual", &[(minutes, true, None), (minutes, true, None)]),
            (
                "long silence",
                &[(minutes, false, long), (minutes, false, long), (minutes, false, long)],
            ),
            ("short silence", &[(minute, false, None), (minute, false, None)]),
            ("short ones", &[(minute, false, None), (minute, false, None), (minute, false, long)]),
        ];
        for (name, watches) in table {
            let mut unheard = Unheard::default();
            for (lasted, heard, why) in *watches {
                assert_eq!(unheard.ended(*lasted, *heard), *why, "{name}");
            }
        }
        let mut unheard = Unheard::default();
        for _ in 0..9 {
            assert_eq!(unheard.ended(none, false), None);
            unheard.heard(false);
        }
        for why in [None, None, None, long, None] {
            assert_eq!(unheard.cut(Duration::from_secs(35), false), why);
        }
        unheard.heard(false);
        assert_eq!(unheard.cut(minutes, true), None, "there was a line, and then nothing");
    }

    /// A load balancer that cuts idle watches must not make a quiet node list all the time.
    #[test]
    fn where_all_watches_are_cut_early_lists_become_rare() {
        let cut = Duration::from_secs(35);
        let lists_in = |unheard: &mut Unheard, hours: u64| {
            let cuts = 0..hours * 3600 / cut.as_secs();
            let mut lists = 0;
            for _ in cuts {
                if unheard.cut(cut, false).is_some() {
                    lists += 1;
                    // One in a stream has lines.
                    unheard.heard(true);
                }
            }
            lists
        };
        let mut unheard = Unheard::default();
        let first = lists_in(&mut unheard, 2);
        assert!((4..=7).contains(&first), "{first} lists in two hours");
        let then = lists_in(&mut unheard, 10);
        assert!((9..=10).contains(&then), "one an hour from now on: {then}");
        unheard.heard(false);
        assert!(lists_in(&mut unheard, 2) >= 4, "the silence was another");
    }
}
