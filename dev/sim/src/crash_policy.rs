//! The choices of a power cut.

use crate::Random;

/// How a power cut chooses among the versions of each sector, the lengths of each file, and the
/// unsynced changes of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashPolicy {
    /// Drops everything that was not synced.
    Oldest,
    /// Keeps everything.
    Newest,
    /// Chooses at random.
    Any,
    /// Chooses one of the other policies for each file as a whole, and one for the names.
    Files,
    /// Drops everything except one in eight.
    Few,
    /// Keeps everything except one in eight.
    Most,
}

impl CrashPolicy {
    /// Returns a random policy; those that choose at random are more likely.
    #[must_use]
    pub fn any(random: &mut Random) -> Self {
        match random.below(16) {
            0 => Self::Oldest,
            1 => Self::Newest,
            2..6 => Self::Any,
            6..10 => Self::Files,
            10..13 => Self::Few,
            _ => Self::Most,
        }
    }
}

/// The choices of one power cut.
pub(crate) struct CrashSampler<'a> {
    random: &'a mut Random,
    leave: CrashPolicy,
    /// Policy for the current file.
    now: CrashPolicy,
}

impl<'a> CrashSampler<'a> {
    pub(crate) fn new(random: &'a mut Random, leave: CrashPolicy) -> Self {
        let mut draw = Self { random, leave, now: leave };
        draw.next_file();
        draw
    }

    /// Begins the choices for another file.
    pub(crate) fn next_file(&mut self) {
        if self.leave == CrashPolicy::Files {
            self.now = [
                CrashPolicy::Oldest,
                CrashPolicy::Newest,
                CrashPolicy::Any,
                CrashPolicy::Few,
                CrashPolicy::Most,
            ][self.random.below(5) as usize];
        }
    }

    /// Chooses one of `versions` unsynced versions, oldest first. `None` is the synced version.
    pub(crate) fn version(&mut self, versions: usize) -> Option<usize> {
        let mut any = || (self.random.below(versions as u64 + 1) as usize).checked_sub(1);
        let newest = versions.checked_sub(1);
        match self.now {
            CrashPolicy::Oldest => None,
            CrashPolicy::Newest => newest,
            CrashPolicy::Any | CrashPolicy::Files => any(),
            CrashPolicy::Few => {
                let one = any();
                if self.random.one_in(8) { one } else { None }
            }
            CrashPolicy::Most => {
                let one = any();
                if self.random.one_in(8) { one } else { newest }
            }
        }
    }

    /// Returns whether a change of names survives.
    pub(crate) fn is_kept(&mut self) -> bool {
        match self.now {
            CrashPolicy::Oldest => false,
            CrashPolicy::Newest => true,
            CrashPolicy::Any | CrashPolicy::Files => !self.random.one_in(3),
            CrashPolicy::Few => self.random.one_in(8),
            CrashPolicy::Most => !self.random.one_in(8),
        }
    }
}
