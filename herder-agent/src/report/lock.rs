//! A lock that keeps nobody waiting for a less urgent thread to get its turn.
//!
//! The core may run before all ordinary threads (`kernel::process::scheduling`), and shares the metrics
//! and the journal with the server, which may have to wait for a processor for hundreds of
//! milliseconds. Whoever holds this lock runs as urgently as whoever waits for it (priority
//! inheritance: `FUTEX_LOCK_PI`, kernel/futex/pi.c), which `std`'s mutex does not offer.
#![expect(unsafe_code, reason = "the C library offers priority inheritance to C only")]

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

/// A value that one thread at a time has.
pub(super) struct Lock<T> {
    /// In a place of its own: a mutex that is in use must not be moved.
    mutex: Box<UnsafeCell<libc::pthread_mutex_t>>,
    value: UnsafeCell<T>,
}

// SAFETY: only who holds the mutex reaches the value, so sharing the lock is no more than
// sending the value; the mutex itself is made to be used by many threads.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: the mutex stays where it is when the box is sent, and belongs to no thread while
// nobody holds it, which the borrow checker sees to.
unsafe impl<T: Send> Send for Lock<T> {}

impl<T> Lock<T> {
    /// With a value that nobody has yet.
    pub(super) fn new(value: T) -> Self {
        let mutex = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: there is room for the attributes.
        if unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) } == 0 {
            // SAFETY: they are initialised.
            unsafe {
                libc::pthread_mutexattr_setprotocol(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_PRIO_INHERIT,
                )
            };
            // SAFETY: they are, and nobody uses the mutex yet. Where the C library cannot make
            // it, it stays an ordinary one.
            unsafe { libc::pthread_mutex_init(mutex.get(), attributes.as_ptr()) };
            // SAFETY: they are, and are used no more.
            unsafe { libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()) };
        }
        Lock { mutex, value: UnsafeCell::new(value) }
    }

    /// Waits until nobody else has the value. A panic of who had it changes nothing: what
    /// these locks are about is never left half changed.
    pub(super) fn lock(&self) -> Held<'_, T> {
        // SAFETY: the mutex was made by `new`, and stays where it is.
        let result = unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
        assert_eq!(result, 0, "a thread waits for itself");
        Held { lock: self, not_send: PhantomData }
    }
}

impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        // SAFETY: nobody holds or waits for a lock that is dropped.
        unsafe { libc::pthread_mutex_destroy(self.mutex.get()) };
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// The value, until this is dropped by the thread that got it.
pub(super) struct Held<'a, T> {
    lock: &'a Lock<T>,
    not_send: PhantomData<*const ()>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread holds the mutex, and nobody else has a reference meanwhile.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this one is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread locked it, since `Held` cannot be sent to another.
        unsafe { libc::pthread_mutex_unlock(self.lock.mutex.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn one_thread_at_a_time_has_the_value() {
        let lock = Lock::new((0u64, 0u64));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        assert_eq!(pair.0, pair.1 + 1, "somebody else is in between");
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
}
