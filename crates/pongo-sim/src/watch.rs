//! Who is told of each operation of a disk, and can take images of it as it goes.

use crate::disk::{Kind, State};
use crate::image::Image;
use crate::leave::Leave;
use crate::random::Random;

/// An operation of a disk that stands still meanwhile. Given to whoever [watches](crate::Disk::watch).
pub struct Moment<'a> {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) path: &'a str,
    pub(crate) is_done: bool,
    pub(crate) state: &'a State,
}

/// What a disk calls.
pub(crate) type Watcher = Box<dyn FnMut(&Moment<'_>) + Send>;

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kind, path, is_done, .. } = self;
        write!(f, "operation {number} ({kind:?} {path}, {})", if *is_done { "done" } else { "begun" })
    }
}

impl Moment<'_> {
    /// Operations before this one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The file or folder it is about.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path
    }

    /// Syncs are told of twice: when they begin, when any part of what they are to make durable may be, and when they are
    /// done. Everything else when it is done; as nothing of it is durable, that covers any part of it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// What a power cut leaves if it comes now. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: Leave) -> Image {
        self.state.image(random, leave)
    }
}
