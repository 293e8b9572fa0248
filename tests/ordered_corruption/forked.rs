//! A child made by `fork`, whose parent has sled open.
#![allow(unsafe_code, reason = "there is no other way to fork")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use pongo_test_support::child;

use crate::parts::{Outcome, Part, check, is_back, open, put, status};

const NAME: &str = "forked::forked_child_leaves_sled_alone";

const ROWS: u64 = 90_000;

/// Runs `work` in a forked child and returns the child's exit code: 0 on success.
fn in_a_child(work: impl FnOnce() -> Outcome) -> i32 {
    // SAFETY: the process has one thread besides the test harness's and sled's, which hold no lock
    // that the child takes except the allocator's, which glibc keeps usable after a fork; the child
    // ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no memory is passed. The alarm ends the child if it hangs.
        unsafe { libc::alarm(30) };
        let code = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                eprintln!("child: {error}");
                1
            }
            Err(_) => 2,
        };
        // SAFETY: ends the process; no code of the parent is run and no buffer of it is written.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: `status` is a local that lives through the call.
    let found = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(found, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

#[test]
fn forked_child_leaves_sled_alone() -> Outcome {
    if child::role().is_none() {
        // In a separate process, so that the threads of other tests do not affect the child.
        let output = child::command(NAME, "alone").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    // Enough rows for a sort by several threads in the child; the parent's threads do not exist
    // there.
    for step in 0..6 {
        put(&store, ROWS / 6 * step..ROWS / 6 * (step + 1))?;
        // The parent's index worker is running and holds locks that no thread of the child will
        // release.
        let code = in_a_child(|| {
            assert!(store.begin_read().is_err() && store.try_begin_write().is_err());
            assert!(
                store.catch_up_indexes().is_err()
                    && store.stats().is_err()
                    && store.rebuild_indexes().is_err()
            );
            Ok(())
        });
        assert_eq!(code, 0, "step {step}");
    }
    store.catch_up_indexes()?;
    pongo::rayon::join(|| (), || ());
    for round in 0..3 {
        let inherited = store.clone();
        let code = in_a_child(|| {
            assert!(inherited.begin_read().is_err() && inherited.begin_write().is_err());
            assert!(inherited.catch_up_indexes().is_err() && inherited.stats().is_err());
            drop(inherited);
            let own = open(&path)?;
            own.catch_up_indexes()?;
            check(&own)?;
            put(&own, ROWS + round * 100..ROWS + 100 + round * 100)?;
            check(&own)?;
            let found = status(&own)?;
            assert!(!found.open && found.unavailable_reason.is_some(), "{found:?}");
            own.close()?;
            Ok(())
        });
        assert_eq!(code, 0, "round {round}");
        // The parent still has sled open, and indexes the rows that the child put.
        is_back(&store)?;
        let found = status(&store)?;
        assert!(found.open && found.quarantined == 0, "{found:?}");
    }
    // A child that only ends, and drops a handle of the store.
    let code = in_a_child(|| {
        drop(store.clone());
        Ok(())
    });
    assert_eq!(code, 0);
    store.close()?;
    // No process holds sled's lock now. The child still cannot use sled, since sled's threads do
    // not exist in it.
    let code = in_a_child(|| {
        let own = open(&path)?;
        put(&own, 2 * ROWS..2 * ROWS + 20_000)?;
        own.catch_up_indexes()?;
        check(&own)?;
        let found = status(&own)?;
        assert!(!found.open && found.unavailable_reason.is_some_and(|why| why.contains("fork")));
        Ok(own.close()?)
    });
    assert_eq!(code, 0);
    let store = open(&path)?;
    check(&store)?;
    is_back(&store)?;
    assert_eq!(status(&store)?.quarantined, 0);
    assert!(store.begin_read()?.table::<Part>()?.len() > ROWS / 2);
    Ok(())
}
