//! Label values, each kept once: a container's names stand in some sixteen series, and copies of them
//! took half of what the agent kept of a container.

use crate::report::lock::Lock;
use std::{borrow::Borrow, collections::HashSet, ops::Deref, sync::Arc};

/// A label value. A series has up to five of them, so it is one pointer wide, which `Arc<str>`
/// is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Value(Arc<Box<str>>);

impl Deref for Value {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Value {
    fn borrow(&self) -> &str {
        self
    }
}

#[derive(Debug)]
pub(super) struct Values(Lock<HashSet<Value>>);

impl Default for Values {
    fn default() -> Self {
        Values(Lock::new(HashSet::new()))
    }
}

impl Values {
    /// The one copy of a value.
    pub(super) fn kept(&self, value: &str) -> Value {
        let mut values = self.0.lock();
        if let Some(kept) = values.get(value) {
            return kept.clone();
        }
        let kept = Value(Arc::new(value.into()));
        values.insert(kept.clone());
        kept
    }

    /// Forgets those that no series has any more.
    pub(super) fn forget_unused(&self) {
        self.0.lock().retain(|value| Arc::strong_count(&value.0) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_as_long_as_it_is_used() {
        let values = Values::default();
        let [one, other] = ["web", "web"].map(|value| values.kept(value));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        drop(other);
        drop(values.kept("gone"));
        values.forget_unused();
        assert_eq!(*values.0.lock(), HashSet::from([one]));
    }
}
