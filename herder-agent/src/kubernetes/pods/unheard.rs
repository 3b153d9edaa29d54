//! Watches in which nothing was heard: the server's own versions may be older than the last one
//! seen, because its etcd was restored. It then passes no change on, and no bookmark, until it has
//! come that far again (`cacheWatcher.process()`, apiserver/pkg/storage/cacher/cache_watcher.go).

use std::time::Duration;

/// So many watches one after the other that end at once, and the pods are listed anew.
const MOST: u32 = 3;

/// A watch that ends within that time has ended at once.
const SHORT: Duration = Duration::from_secs(1);

/// A server that has the version sends a bookmark each minute (`defaultBookmarkFrequency`,
/// apiserver/pkg/storage/cacher/cacher.go).
const BOOKMARKS: Duration = Duration::from_secs(150);

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct Unheard(u32);

impl Unheard {
    /// A line was heard.
    pub(super) fn heard(&mut self) {
        self.0 = 0;
    }

    /// A watch has ended in good order after so long, with or without a line. Gives the reason to
    /// list the pods anew, if there is one.
    pub(super) fn ended(&mut self, lasted: Duration, heard: bool) -> Option<&'static str> {
        if !heard && lasted >= BOOKMARKS {
            self.0 = 0;
            return Some("the API server had neither a change nor a bookmark for long");
        }
        self.0 = if lasted < SHORT { self.0 + 1 } else { 0 };
        if self.0 < MOST {
            return None;
        }
        self.0 = 0;
        Some("the API server ends each watch at once")
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
        let table: &[(&str, &[Watch])] = &[
            ("at once", &[(none, false, None), (none, false, None), (none, false, short)]),
            (
                "with a longer one",
                &[(none, false, None), (second, false, None), (none, false, None)],
            ),
            ("as usual", &[(minutes, true, None), (minutes, true, None)]),
            ("long silence", &[(minutes, false, long), (minutes, false, long)]),
            ("short silence", &[(Duration::from_secs(60), false, None)]),
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
            unheard.heard();
        }
    }
}
