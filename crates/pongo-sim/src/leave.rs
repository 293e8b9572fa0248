//! How a power cut chooses among what it may leave.

use crate::random::Random;

/// How a power cut chooses, among the versions of each sector, the lengths of each file, and the changes of names that
/// were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// Nothing that was not synced.
    Oldest,
    /// Everything.
    Newest,
    /// Whatever comes.
    Any,
    /// Each file as a whole its oldest, its newest or anything; the same for the names.
    Files,
    /// Nothing, but for one in eight.
    Few,
    /// Everything, but for one in eight.
    Most,
}

impl Leave {
    /// One of them; those that choose more often than those that do not.
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

/// One power cut's choices.
pub(crate) struct Draw<'a> {
    random: &'a mut Random,
    leave: Leave,
    /// For what is being chosen now.
    now: Leave,
}

impl<'a> Draw<'a> {
    pub(crate) fn new(random: &'a mut Random, leave: Leave) -> Self {
        let mut draw = Self { random, leave, now: leave };
        draw.next_file();
        draw
    }

    /// What follows is about another file.
    pub(crate) fn next_file(&mut self) {
        if self.leave == Leave::Files {
            self.now = [Leave::Oldest, Leave::Newest, Leave::Any, Leave::Few, Leave::Most]
                [self.random.below(5) as usize];
        }
    }

    /// Which of so many versions, oldest first, is there; `None`: what was synced.
    pub(crate) fn version(&mut self, versions: usize) -> Option<usize> {
        let mut any = || (self.random.below(versions as u64 + 1) as usize).checked_sub(1);
        let newest = versions.checked_sub(1);
        match self.now {
            Leave::Oldest => None,
            Leave::Newest => newest,
            Leave::Any | Leave::Files => any(),
            Leave::Few => {
                let one = any();
                if self.random.one_in(8) { one } else { None }
            }
            Leave::Most => {
                let one = any();
                if self.random.one_in(8) { one } else { newest }
            }
        }
    }

    /// Whether a change of names is there.
    pub(crate) fn is_kept(&mut self) -> bool {
        match self.now {
            Leave::Oldest => false,
            Leave::Newest => true,
            Leave::Any | Leave::Files => !self.random.one_in(3),
            Leave::Few => self.random.one_in(8),
            Leave::Most => !self.random.one_in(8),
        }
    }
}
