//! Safeguards that tests can disable.
//!
//! Every sync, every comparison of a checksum, every fence and every pin is wrapped in
//! [`removable!`], [`holds!`] or [`fails!`] with its own name. In a build with
//! `--cfg pongo_removable`, which only tests use, the environment variable `PONGO_REMOVE=name`
//! disables that safeguard in the whole process. The test suite must then fail, otherwise it does
//! not test the safeguard. In every other build the macros expand to their argument: no branch, no
//! string.
//!
//! The names and purposes are listed in `pongo-crashtest`; a test there finds any safeguard without a
//! name.

pub use crate::{fails, holds, removable};

/// An action that protects something: if disabled, it reports success without being executed.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! removable {
    ($name:literal, $action:expr) => {
        $action
    };
}

/// A comparison that protects something: if disabled, it is true for all values.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! holds {
    ($name:literal, $comparison:expr) => {
        $comparison
    };
}

/// The inverse comparison: if disabled, it never fails.
#[cfg(not(pongo_removable))]
#[doc(hidden)]
#[macro_export]
macro_rules! fails {
    ($name:literal, $comparison:expr) => {
        $comparison
    };
}

/// An action that protects something: if disabled, it reports success without being executed.
#[cfg(pongo_removable)]
#[doc(hidden)]
#[macro_export]
macro_rules! removable {
    ($name:literal, $action:expr) => {
        if $crate::guard::is_left_out($name) { $crate::guard::Done::done() } else { $action }
    };
}

/// A comparison that protects something: if disabled, it is true for all values.
#[cfg(pongo_removable)]
#[doc(hidden)]
#[macro_export]
macro_rules! holds {
    ($name:literal, $comparison:expr) => {
        $crate::guard::is_left_out($name) || $comparison
    };
}

/// The inverse comparison: if disabled, it never fails.
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
    use std::collections::HashSet;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// The result of an action that was disabled and reports success.
    pub trait Done {
        /// Returns the success value.
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

    struct Asked {
        removed: Option<String>,
        /// The file that records the safeguards that were reached.
        reached: Option<std::path::PathBuf>,
    }

    /// Returns whether this safeguard is disabled in this process. If `PONGO_REMOVE_REACHED` names
    /// a file, each name is appended to it when the process first reaches the safeguard.
    #[must_use]
    pub fn is_left_out(name: &'static str) -> bool {
        static ASKED: OnceLock<Asked> = OnceLock::new();
        let asked = ASKED.get_or_init(|| Asked {
            removed: std::env::var("PONGO_REMOVE").ok(),
            reached: std::env::var_os("PONGO_REMOVE_REACHED").map(Into::into),
        });
        if let Some(path) = &asked.reached {
            note(path, name);
        }
        asked.removed.as_deref() == Some(name)
    }

    fn note(path: &std::path::Path, name: &'static str) {
        static NOTED: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get_or_insert_default().insert(name)
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            // In one call, since other processes append to the file too.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
    }
}
