//! Notification about each operation of a disk, during which the watcher can take images.

use crate::Random;
use crate::crash_policy::CrashPolicy;
use crate::image::Image;
use crate::state::{OpKind, State};

/// An operation of a disk, passed to the [watcher](crate::Disk::watch). The disk is paused until
/// the watcher returns.
pub struct DiskEvent<'a> {
    pub(crate) number: u64,
    pub(crate) kind: OpKind,
    pub(crate) path: &'a str,
    pub(crate) is_done: bool,
    pub(crate) state: &'a State,
}

/// A function that the disk calls for each operation.
pub(crate) type Watcher = Box<dyn FnMut(&DiskEvent<'_>) + Send>;

impl std::fmt::Debug for DiskEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kind, path, is_done, .. } = self;
        write!(f, "operation {number} ({kind:?} {path}, {})", if *is_done { "done" } else { "begun" })
    }
}

impl DiskEvent<'_> {
    /// Returns the number of operations before this one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the kind of the operation.
    #[must_use]
    pub fn kind(&self) -> OpKind {
        self.kind
    }

    /// Returns the path of the file or folder.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path
    }

    /// Returns whether the operation is complete. A sync is reported twice: at its start, when any
    /// part of the data may become durable, and when it is complete. All other operations are
    /// reported when they are complete; none of their effect is durable then, so images of that
    /// moment include any part of it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns the image that a power cut at this moment leaves. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: CrashPolicy) -> Image {
        self.state.image(random, leave)
    }
}
