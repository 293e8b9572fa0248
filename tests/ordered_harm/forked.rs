//! A child made by `fork`, whose parent has sled open.
#![allow(unsafe_code, reason = "there is no other way to fork")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::child;
use crate::parts::{Outcome, Part, check, is_back, open, put, status};

const NAME: &str = "forked::a_forked_child_leaves_the_parents_sled_alone";

const ROWS: u64 = 90_000;

/// Runs `work` in a child, and says what it ended with: 0 if it went well.
fn in_a_child(work: impl FnOnce() -> Outcome) -> i32 {
    // SAFETY: the process has one thread besides the test harness's and sled's, which hold no lock that the child takes but
    // the allocator's, which glibc keeps usable; the child ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no memory is passed. Whatever goes wrong, the child does not stay.
        unsafe { libc::alarm(30) };
        let code = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                eprintln!("child: {error}");
                1
            }
            Err(_) => 2,
        };
        // SAFETY: ends the process; nothing of the parent's is run or written.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: `status` is a local that lives through the call.
    let found = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(found, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

#[test]
fn a_forked_child_leaves_the_parents_sled_alone() -> Outcome {
    if child::role().is_none() {
        // In a process of its own: the other tests' threads are none of the child's business.
        let output = child::command(NAME, "alone").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    // Enough for the child to sort them by several threads; those that the parent has are not there.
    for step in 0..6 {
        put(&store, ROWS / 6 * step..ROWS / 6 * (step + 1))?;
        // The parent's keeper is at work, and holds locks that nobody gives up in the child.
        let code = in_a_child(|| {
            assert!(store.begin_read().is_err() && store.try_begin_write().is_err());
            assert!(store.settle().is_err() && store.stats().is_err() && store.rebuild_indexes().is_err());
            Ok(())
        });
        assert_eq!(code, 0, "step {step}");
    }
    store.settle()?;
    pongo::rayon::join(|| (), || ());
    for round in 0..3 {
        let inherited = store.clone();
        let code = in_a_child(|| {
            assert!(inherited.begin_read().is_err() && inherited.begin_write().is_err());
            assert!(inherited.settle().is_err() && inherited.stats().is_err());
            drop(inherited);
            let own = open(&path)?;
            own.settle()?;
            check(&own)?;
            put(&own, ROWS + round * 100..ROWS + 100 + round * 100)?;
            check(&own)?;
            let found = status(&own)?;
            assert!(!found.open && found.refused.is_some(), "{found:?}");
            own.close()?;
            Ok(())
        });
        assert_eq!(code, 0, "round {round}");
        // The parent's sled has not changed hands, and takes what the child put.
        is_back(&store)?;
        let found = status(&store)?;
        assert!(found.open && found.set_aside == 0, "{found:?}");
    }
    // A child that only ends, with the last handle of the store in it.
    let code = in_a_child(|| {
        drop(store.clone());
        Ok(())
    });
    assert_eq!(code, 0);
    store.close()?;
    // Nobody has sled's lock now, and sled's threads are still none of the child's.
    let code = in_a_child(|| {
        let own = open(&path)?;
        put(&own, 2 * ROWS..2 * ROWS + 20_000)?;
        own.settle()?;
        check(&own)?;
        let found = status(&own)?;
        assert!(!found.open && found.refused.is_some_and(|why| why.contains("fork")));
        Ok(own.close()?)
    });
    assert_eq!(code, 0);
    let store = open(&path)?;
    check(&store)?;
    is_back(&store)?;
    assert_eq!(status(&store)?.set_aside, 0);
    assert!(store.begin_read()?.table::<Part>()?.len() > ROWS / 2);
    Ok(())
}
