//! State of a disk: its files and names, and the planned fault.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use pongo_core::storage::File;

use crate::Random;
use crate::crash_policy::{CrashPolicy, CrashSampler};
use crate::dirents::DirentHistory;
use crate::file_history::{FileContent, FileHistory};
use crate::image::Image;

/// A fault that is injected at a later operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultPlan {
    /// No fault.
    Nothing,
    /// Kills the process that does this operation, before the operation.
    Kill(u64),
    /// Cuts the power during this operation.
    Cut(u64),
    /// Makes this operation fail with this error. If the flag is set, all later operations of its
    /// kind fail too.
    Fail(u64, io::ErrorKind, bool),
    /// Kills the process that first does an operation of this kind on a name that contains this
    /// text, before the operation.
    KillOn(OpKind, &'static str),
    /// Makes every operation of this kind fail on files whose name contains this text.
    FailOn(OpKind, &'static str, io::ErrorKind),
}

/// Kind of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// A file or folder is created, renamed or removed.
    Name,
    /// A folder is synced.
    SyncDir,
    /// Bytes are written, or the length is set.
    Write,
    /// Space is allocated.
    Allocate,
    /// A file is synced.
    Sync,
    /// A word of a map is written.
    Store,
}

/// State of the simulated files and names, and the planned fault.
pub(crate) struct State {
    pub(crate) plan: FaultPlan,
    /// The first operation that the plan made fail, if any.
    pub(crate) failed: Option<(OpKind, String)>,
    pub(crate) random: Random,
    pub(crate) files: HashMap<u64, (Arc<dyn File>, FileHistory)>,
    pub(crate) names: DirentHistory,
    /// Stores to holes of maps: on a full disk each of them would raise a signal.
    pub(crate) hole_stores: Vec<(String, u64)>,
}

impl State {
    /// Returns the image that a power cut at this moment leaves.
    pub(crate) fn image(&self, random: &mut Random, leave: CrashPolicy) -> Image {
        let mut draw = CrashSampler::new(random, leave);
        let names = self.names.draw(&mut draw);
        let mut drawn: HashMap<u64, Arc<FileContent>> = HashMap::new();
        let mut content = |number| {
            let draw = || self.files.get(&number).map_or_else(Arc::default, |(_, past)| past.draw(&mut draw));
            Arc::clone(drawn.entry(number).or_insert_with(draw))
        };
        let entries = names.into_iter().map(|(path, what)| (path, what.map(&mut content))).collect();
        Image { entries }
    }
}
