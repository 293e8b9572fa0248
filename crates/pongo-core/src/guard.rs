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
    use std::collections::HashSet;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

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

    struct Asked {
        removed: Option<String>,
        /// The file in which is noted what was come by.
        reached: Option<std::path::PathBuf>,
    }

    /// Whether this is the safeguard that this process does without. If `PONGO_REMOVE_REACHED` names a file, each name
    /// is put behind what is in it when the process first comes by.
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
            // In one call: other processes write behind each other too.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
    }
}
