//! The number of maps that this process has through this crate. The kernel limits the maps of a
//! process (`vm.max_map_count`); stores use at most half of the limit, and the rest is left for
//! other code in the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// The kernel's default limit.
const USUAL: usize = 65_530;

/// A number of maps, which are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(AtomicUsize);

impl Counted {
    pub(super) fn new(maps: usize) -> Self {
        COUNT.fetch_add(maps, Ordering::Relaxed);
        Self(AtomicUsize::new(maps))
    }

    pub(super) fn add(&self) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(*self.0.get_mut(), Ordering::Relaxed);
    }
}

/// Returns the current number of file maps and reserved address ranges.
pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Returns the number of maps above which unused objects release theirs.
pub(super) fn limit() -> usize {
    static OF_THE_KERNEL: OnceLock<usize> = OnceLock::new();
    match LIMIT.load(Ordering::Relaxed) {
        // The file does not exist under Miri.
        0 if cfg!(miri) => USUAL / 2,
        0 => *OF_THE_KERNEL.get_or_init(|| {
            let said = std::fs::read_to_string("/proc/sys/vm/max_map_count");
            said.ok().and_then(|said| said.trim().parse().ok()).unwrap_or(USUAL) / 2
        }),
        limit => limit,
    }
}

/// Sets another limit for this process. For tests.
#[doc(hidden)]
pub fn set_map_limit(maps: usize) {
    LIMIT.store(maps, Ordering::Relaxed);
}
