//! Starts the test binary again, to run the same test in another role in another process.

use std::process::Command;

const ROLE: &str = "PONGO_TEST_ROLE";

/// Returns the role of this process if a test started it.
#[must_use]
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Returns a command that runs `test` of this binary as `role`. The name of the test includes its
/// modules.
///
/// # Panics
///
/// Panics if the path of this binary is unknown.
#[must_use]
pub fn command(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}
