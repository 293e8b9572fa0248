//! Atomics that a model sees. Each is a plain atomic in memory, so that a run of zeroed bytes is a run of them here as
//! well; while the threads of a model run, those that several threads share are loom's in truth (see `explore`).
//!
//! Loom treats an access that is `SeqCst` as acquire and release only, and does model fences that are. So such a store is
//! followed by a fence here, and such a load comes behind one, as compilers do it where a processor has no instruction
//! for it (they need but one of the two). This is a little more than the language promises, and what processors do.

use std::fmt;
use std::sync::atomic::{self as plain, Ordering};

use super::explore::{Access, fences_for_all, in_force, modelled};

/// A fence, seen by loom while threads of a model run.
#[track_caller]
pub fn fence(o: Ordering) {
    if super::explore::is_running()
        && let Some(o) = in_force(o, Access::Fence)
    {
        loom::sync::atomic::fence(o);
    }
}

/// The order that loom is told of, and whether a fence stands before the access and one behind it for the rest.
#[track_caller]
fn told(o: Ordering, what: Access) -> (Ordering, bool, bool) {
    let o = in_force(o, what).unwrap_or(Ordering::Relaxed);
    if o == Ordering::SeqCst {
        let (before, behind) = fences_for_all();
        return (what.strongest(), before && what != Access::Store, behind && what != Access::Load);
    }
    // One that was weakened may not fit the access.
    (if o == Ordering::AcqRel { what.strongest() } else { o }, false, false)
}

fn fence_if(there: bool) {
    if there {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        /// An atomic word that a model sees.
        #[repr(transparent)]
        #[derive(Default)]
        pub struct $name(plain::$name);

        impl $name {
            /// A word with a value.
            pub const fn new(value: $int) -> Self {
                Self(plain::$name::new(value))
            }

            fn place(&self) -> usize {
                std::ptr::from_ref(self).addr()
            }

            /// As std's.
            #[track_caller]
            pub fn load(&self, o: Ordering) -> $int {
                let Some(word) = modelled(self.place(), Access::Load) else { return self.0.load(o) };
                let (o, before, _) = told(o, Access::Load);
                fence_if(before);
                word.load(o) as $int
            }

            /// As std's.
            #[track_caller]
            pub fn store(&self, value: $int, o: Ordering) {
                let Some(word) = modelled(self.place(), Access::Store) else { return self.0.store(value, o) };
                let (o, _, behind) = told(o, Access::Store);
                word.store(value.into(), o);
                fence_if(behind);
            }

            /// As std's.
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
                let (success, before, behind) = told(success, Access::Change);
                let failure = if failure == Ordering::Relaxed { failure } else { Ordering::Acquire };
                fence_if(before);
                let done = word.compare_exchange(current.into(), new.into(), success, failure);
                fence_if(behind);
                done.map(|old| old as $int).map_err(|old| old as $int)
            }

            /// As std's; never fails without a reason.
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

/// Changes that cannot fail.
macro_rules! changes {
    ($name:ident, $int:ty, $($operation:ident)+) => {
        impl $name {
            $(
                /// As std's.
                #[track_caller]
                pub fn $operation(&self, value: $int, o: Ordering) -> $int {
                    let Some(word) = modelled(self.place(), Access::Change) else {
                        return self.0.$operation(value, o);
                    };
                    let (o, before, behind) = told(o, Access::Change);
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
// Not `fetch_add` for the shorter one: loom's word is a long one in each case, and would not wrap around.
changes!(AtomicU32, u32, swap fetch_max fetch_min fetch_or fetch_and);
changes!(AtomicU64, u64, swap fetch_max fetch_min fetch_or fetch_and fetch_add);

/// A value that is set once. Whether it is there is a word that the model sees; the value itself is not read before.
pub struct OnceLock<T> {
    is_set: AtomicU64,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { is_set: AtomicU64::new(0), value: std::sync::OnceLock::new() }
    }

    /// The value, if this thread can know of it.
    pub fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) == 0 { None } else { self.value.get() }
    }

    /// Sets it; `Err` if it was set.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(1, Ordering::Release);
        Ok(())
    }

    /// The value, which is made if there is none.
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

/// Something that is written and read without atomics, and for which others see to the order: a row. There is nothing in
/// it. Loom panics if two threads reach it and one of them writes, and neither came before the other.
#[derive(Debug)]
pub struct Plain(loom::cell::UnsafeCell<()>);

// SAFETY: there is nothing in it, and loom, whose record of accesses it is, runs all threads on one.
unsafe impl Sync for Plain {}

impl Plain {
    /// One that nobody wrote yet.
    #[allow(clippy::new_without_default, reason = "made inside a model only")]
    pub fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }

    /// It is read.
    #[track_caller]
    pub fn read(&self) {
        self.0.with(|_| ());
    }

    /// It is written.
    #[track_caller]
    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }
}
