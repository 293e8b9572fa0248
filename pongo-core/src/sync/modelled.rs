//! Atomics that loom can model. Each is a plain atomic in memory, so that zeroed bytes are valid
//! values here too. While the threads of a model run, loom's atomics replace those that several
//! threads share (see `explore`).
//!
//! Loom treats a `SeqCst` access as acquire and release only, but models `SeqCst` fences. So such a
//! store is followed by a fence here, and such a load is preceded by one, as compilers do for
//! processors without an instruction for it (they need only one of the two). This is slightly
//! stronger than what the language and processors guarantee.

use std::fmt;
use std::sync::atomic::{self as plain, Ordering};

use super::explore::{Access, fences_for_all, in_force, modelled};

/// Executes a fence, modelled by loom while threads of a model run.
#[track_caller]
pub fn fence(o: Ordering) {
    if super::explore::is_running()
        && let Some(o) = in_force(o, Access::Fence)
    {
        loom::sync::atomic::fence(o);
    }
}

/// Returns the ordering to pass to loom, and whether a fence is needed before the access and
/// whether one is needed after it.
#[track_caller]
fn relax_ordering(o: Ordering, what: Access) -> (Ordering, bool, bool) {
    let o = in_force(o, what).unwrap_or(Ordering::Relaxed);
    if o == Ordering::SeqCst {
        let (before, behind) = fences_for_all();
        return (what.strongest(), before && what != Access::Store, behind && what != Access::Load);
    }
    // A weakened ordering may not be valid for this kind of access.
    (if o == Ordering::AcqRel { what.strongest() } else { o }, false, false)
}

fn fence_if(there: bool) {
    if there {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        /// An atomic word that loom can model.
        #[repr(transparent)]
        #[derive(Default)]
        pub struct $name(plain::$name);

        impl $name {
            /// Creates a word with a value.
            pub const fn new(value: $int) -> Self {
                Self(plain::$name::new(value))
            }

            fn place(&self) -> usize {
                std::ptr::from_ref(self).addr()
            }

            /// Loads the value, as in `std`.
            #[track_caller]
            pub fn load(&self, o: Ordering) -> $int {
                let Some(word) = modelled(self.place(), Access::Load) else { return self.0.load(o) };
                let (o, before, _) = relax_ordering(o, Access::Load);
                fence_if(before);
                word.load(o) as $int
            }

            /// Stores a value, as in `std`.
            #[track_caller]
            pub fn store(&self, value: $int, o: Ordering) {
                let Some(word) = modelled(self.place(), Access::Store) else { return self.0.store(value, o) };
                let (o, _, behind) = relax_ordering(o, Access::Store);
                word.store(value.into(), o);
                fence_if(behind);
            }

            /// Compares and exchanges the value, as in `std`.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                let Some(word) = modelled(self.place(), Access::Change) else {
                    return self.0.compare_exchange(current, new, success, failure);
                };
                let (success, before, behind) = relax_ordering(success, Access::Change);
                let failure = if failure == Ordering::Relaxed { failure } else { Ordering::Acquire };
                fence_if(before);
                let done = word.compare_exchange(current.into(), new.into(), success, failure);
                fence_if(behind);
                done.map(|old| old as $int).map_err(|old| old as $int)
            }

            /// Compares and exchanges the value, as in `std`. Never fails spuriously.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(current, new, success, failure)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

/// Implements the read-modify-write operations that cannot fail.
macro_rules! changes {
    ($name:ident, $int:ty, $($operation:ident)+) => {
        impl $name {
            $(
                /// Updates the value and returns the previous one, as in `std`.
                #[track_caller]
                pub fn $operation(&self, value: $int, o: Ordering) -> $int {
                    let Some(word) = modelled(self.place(), Access::Change) else {
                        return self.0.$operation(value, o);
                    };
                    let (o, before, behind) = relax_ordering(o, Access::Change);
                    fence_if(before);
                    let old = word.$operation(value.into(), o);
                    fence_if(behind);
                    old as $int
                }
            )+
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
// `AtomicU32` has no `fetch_add`: loom's word always has 64 bits and would not wrap around at 32.
changes!(AtomicU32, u32, swap fetch_max fetch_min fetch_or fetch_and);
changes!(AtomicU64, u64, swap fetch_max fetch_min fetch_or fetch_and fetch_add);

/// A value that is set once. Whether it is set is a word that loom models; the value is not read
/// before it is set.
pub struct OnceLock<T> {
    is_set: AtomicU64,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// Creates an empty cell.
    pub const fn new() -> Self {
        Self { is_set: AtomicU64::new(0), value: std::sync::OnceLock::new() }
    }

    /// Returns the value, if the model allows this thread to see it.
    pub fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) == 0 { None } else { self.value.get() }
    }

    /// Sets the value. Returns `Err` if it was already set.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(1, Ordering::Release);
        Ok(())
    }

    /// Returns the value, initialising it if it is not set.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _ = self.value.set(make());
        self.is_set.store(1, Ordering::Release);
        self.value.get().expect("it was set here or before")
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Stands for data that is accessed without atomics, such as a row, and whose accesses other code
/// must order. Holds nothing. Loom panics if two threads access it, one of them writes, and neither
/// access happens before the other.
#[derive(Debug)]
pub struct Plain(loom::cell::UnsafeCell<()>);

// SAFETY: the cell holds no data, and loom, which records its accesses, runs all threads on one
// system thread.
unsafe impl Sync for Plain {}

impl Plain {
    /// Creates a cell that was not written yet.
    #[allow(clippy::new_without_default, reason = "made inside a model only")]
    pub fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }

    /// Records a read.
    #[track_caller]
    pub fn read(&self) {
        self.0.with(|_| ());
    }

    /// Records a write.
    #[track_caller]
    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }
}
