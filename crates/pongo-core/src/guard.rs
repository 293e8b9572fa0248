//! Safeguards that tests can leave out.
//!
//! Every sync, every checksum that is compared, every fence and every pin stands in [`removable!`], [`holds!`] or [`fails!`]
//! with a name of its own. In a build with `--cfg pongo_removable`, which only tests are built with, the environment variable
//! `PONGO_REMOVE=name` leaves that one out, in the whole process; the suite must then fail, or it proves nothing about it.
//! In every other build the macros are what stands in them: no branch, no string.
//!
//! The names, and what each is for, are listed in `pongo-torture`; a test there finds any safeguard without a name.

pub use crate::{fails, holds, removable};

/// An action that protects something: left out, it says that it was done.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! removable {
    ($name:literal, $action:expr) => {
        $action
    };
}

/// A comparison that protects something: left out, it holds whatever is compared.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! holds {
    ($name:literal, $comparison:expr) => {
        $comparison
    };
}

/// The same from its other side: left out, it never fails.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! fails {
    ($name:literal, $comparison:expr) => {
        $comparison
    };
}

/// An action that protects something: left out, it says that it was done.
#[cfg(pongo_removable)]
#[doc(hidden)]
#[macro_export]
macro_rules! removable {
    ($name:literal, $action:expr) => {
        if $crate::guard::is_left_out($name) { $crate::guard::Done::done() } else { $action }
    };
}

/// A comparison that protects something: left out, it holds whatever is compared.
#[cfg(pongo_removable)]
#[doc(hidden)]
#[macro_export]
macro_rules! holds {
    ($name:literal, $comparison:expr) => {
        $crate::guard::is_left_out($name) || $comparison
    };
}

/// The same from its other side: left out, it never fails.
#[cfg(pongo_removable)]
#[doc(hidden)]
#[macro_export]
macro_rules! fails {
    ($name:literal, $comparison:expr) => {
        !$crate::guard::is_left_out($name) && $comparison
    };
}

#[cfg(pongo_removable)]
pub use left_out::{Done, is_left_out};

#[cfg(pongo_removable)]
mod left_out {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What an action gives that was not done and says it was.
    pub trait Done {
        /// That.
        fn done() -> Self;
    }

    impl Done for () {
        fn done() {}
    }

    impl Done for bool {
        fn done() -> Self {
            true
        }
    }

    impl<T: Done, E> Done for Result<T, E> {
        fn done() -> Self {
            Ok(T::done())
        }
    }

    /// Whether this is the safeguard that this process does without. That the tests came by it at all is noted in the
    /// file that `PONGO_REMOVE_REACHED` names.
    #[must_use]
    pub fn is_left_out(name: &str) -> bool {
        static REMOVED: OnceLock<Option<String>> = OnceLock::new();
        static REACHED: AtomicBool = AtomicBool::new(false);
        let removed = REMOVED.get_or_init(|| std::env::var("PONGO_REMOVE").ok());
        if removed.as_deref() != Some(name) {
            return false;
        }
        if !REACHED.swap(true, Ordering::Relaxed)
            && let Some(path) = std::env::var_os("PONGO_REMOVE_REACHED")
        {
            let _ = std::fs::write(path, name);
        }
        true
    }
}
