//! A lock with priority inheritance, so that no thread waits for a less urgent one to get a
//! processor.
//!
//! The core may run before all ordinary threads (`kernel::process::scheduling`), and shares the
//! metrics and the journal with the server, which may have to wait for a processor for hundreds of
//! milliseconds. With priority inheritance (`FUTEX_LOCK_PI`, kernel/futex/pi.c) the holder of this
//! lock runs as urgently as the most urgent thread that waits for it. `std`'s mutex does not offer
//! that. So a futex is taken before that mutex, for which then no thread ever waits.

use rustix::{
    io::Errno,
    thread::futex::{self, Flags},
};
use std::{
    cell::Cell,
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// A value that one thread at a time has.
pub(super) struct Lock<T> {
    /// None where the kernel has no such futexes: the mutex is then an ordinary one.
    turn: Option<Turn>,
    value: Mutex<T>,
}

/// Whose turn it is: 0 or the holder's thread ID, to which the kernel adds a bit when others wait.
/// The mutex behind it orders memory.
struct Turn(AtomicU32);

impl<T> Lock<T> {
    /// With a value that no thread has yet.
    pub(super) fn new(value: T) -> Self {
        Lock { turn: Turn::new(), value: Mutex::new(value) }
    }

    /// Waits until no other thread has the value. A panic of the thread that had it changes
    /// nothing: what these locks are about is never left half changed.
    pub(super) fn lock(&self) -> Held<'_, T> {
        let turn = self.turn.as_ref().map(Turn::take);
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Held { value, _turn: turn }
    }
}

impl Turn {
    fn new() -> Option<Self> {
        let turn = AtomicU32::new(0);
        // To unlock a futex that no thread holds is not permitted. Another error means that the
        // kernel does not offer the call.
        (futex::unlock_pi(&turn, Flags::PRIVATE) == Err(Errno::PERM)).then_some(Turn(turn))
    }

    fn take(&self) -> Taken<'_> {
        let is_free = self.0.compare_exchange(0, own_id(), Ordering::Acquire, Ordering::Relaxed);
        while is_free.is_err() {
            match futex::lock_pi(&self.0, Flags::PRIVATE, None) {
                Ok(()) => break,
                // The holder is about to exit.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => {
                    assert_ne!(error, Errno::DEADLK, "a thread waits for itself");
                    // Nothing is held then: the mutex is waited for, if less urgently.
                    return Taken(None);
                }
            }
        }
        Taken(Some(self))
    }
}

/// Released when this is dropped, by the same thread: [`Held`] cannot be sent to another.
struct Taken<'a>(Option<&'a Turn>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(Turn(turn)) = self.0 else { return };
        if turn.compare_exchange(own_id(), 0, Ordering::Release, Ordering::Relaxed).is_err() {
            // It fails for a futex alone that is not this thread's.
            let _ = futex::unlock_pi(turn, Flags::PRIVATE);
        }
    }
}

/// The ID of this thread, which never changes: nothing here forks.
fn own_id() -> u32 {
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    let id = ID.get();
    if id != 0 {
        return id;
    }
    let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    ID.set(id);
    id
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// The value, until the thread that got it drops this. The mutex is released before the turn.
pub(super) struct Held<'a, T> {
    value: MutexGuard<'a, T>,
    _turn: Option<Taken<'a>>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    #[test]
    fn one_thread_at_a_time_has_the_value() {
        let lock = Lock::new((0u64, 0u64));
        assert!(lock.turn.is_some(), "this kernel has priority inheritance");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        assert_eq!(pair.0, pair.1 + 1, "another thread is in between");
                        pair.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (40_000, 40_000));
    }

    #[test]
    fn a_panic_leaves_it_usable() {
        let lock = Lock::new(1);
        let panicked = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = lock.lock();
                    panic!("on purpose");
                })
                .join()
        });
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
    }

    /// What `ps` shows as PRI, the other way round: 20 for an ordinary thread, more for a nice one.
    fn own_priority() -> i64 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(15).unwrap().parse().unwrap()
    }

    /// Needs no privilege: the nicest thread is the less urgent one.
    #[test]
    fn who_holds_it_is_as_urgent_as_who_waits() {
        let lock = Lock::new(());
        let (holds, held) = mpsc::channel();
        let urgent = own_priority();
        if urgent == 39 {
            // Nothing is less urgent than this thread, so there is nothing to inherit.
            return;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let thread = rustix::thread::gettid();
                rustix::process::setpriority_process(Some(thread), 19).unwrap();
                assert_eq!(own_priority(), 39);
                let guard = lock.lock();
                holds.send(()).unwrap();
                let patience = Instant::now() + Duration::from_secs(60);
                while own_priority() != urgent {
                    assert!(Instant::now() < patience, "it has inherited nothing");
                    thread::sleep(Duration::from_millis(1));
                }
                drop(guard);
                assert_eq!(own_priority(), 39, "it has given that back");
            });
            held.recv().unwrap();
            drop(lock.lock());
        });
    }
}
