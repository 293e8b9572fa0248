//! How many maps this process has through this crate. The kernel allows each process so many (`vm.max_map_count`), for
//! everything that is in it: half of them are for stores.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// What the kernel allows unless it was told otherwise.
const USUAL: usize = 65_530;

/// Some maps; no longer counted when dropped.
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

/// Maps of files and reserved address ranges that there are now.
pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Above so many, what nobody uses gives its maps up.
pub(super) fn limit() -> usize {
    static OF_THE_KERNEL: OnceLock<usize> = OnceLock::new();
    match LIMIT.load(Ordering::Relaxed) {
        // Miri has no such file.
        0 if cfg!(miri) => USUAL / 2,
        0 => *OF_THE_KERNEL.get_or_init(|| {
            let said = std::fs::read_to_string("/proc/sys/vm/max_map_count");
            said.ok().and_then(|said| said.trim().parse().ok()).unwrap_or(USUAL) / 2
        }),
        limit => limit,
    }
}

/// For tests: another limit for this process.
#[doc(hidden)]
pub fn set_map_limit(maps: usize) {
    LIMIT.store(maps, Ordering::Relaxed);
}
