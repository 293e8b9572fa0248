//! Waiting and retrying, with limits.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until `condition` holds, for at most `limit`. Returns whether it holds.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() > limit {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Calls `attempt` until it succeeds, up to `tries` times in all, with pauses of 20 milliseconds.
///
/// # Errors
///
/// Returns the error of the last attempt.
pub fn retry<T, E>(tries: u32, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 1..tries {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        sleep(Duration::from_millis(20));
    }
    attempt()
}
