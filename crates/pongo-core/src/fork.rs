//! Noticing that this process is a child made by `fork`: a page that the kernel wipes in the child.
//!
//! A child shares its parent's locks, so a handle it inherited must not touch `control`, not even when it is dropped.

use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

use crate::storage::PAGE;

/// Tells the process that made it from its children. Under Miri, and on kernels before 4.14, it cannot tell.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: Option<MmapRaw>,
}

impl ForkGuard {
    pub(crate) fn new() -> Self {
        let make = || {
            if cfg!(miri) {
                return None;
            }
            let map = MmapOptions::new().len(PAGE as usize).map_anon().ok()?;
            let page = MmapRaw::from(map);
            // SAFETY: the range is exactly the map, which is private, anonymous and owned by `page`; the advice changes
            // what a child sees, never this process's bytes.
            unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }.ok()?;
            byte(&page).store(1, Ordering::Relaxed);
            Some(page)
        };
        Self { page: make() }
    }

    /// Whether the process is a child of the one that made this. Cost: a load.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.page.as_ref().is_some_and(|page| byte(page).load(Ordering::Relaxed) == 0)
    }
}

fn byte(page: &MmapRaw) -> &AtomicU8 {
    // SAFETY: the map is at least one byte long, private to this value, and reached only as this atomic; it lives as
    // long as the borrow of `page`.
    unsafe { AtomicU8::from_ptr(page.as_mut_ptr()) }
}
