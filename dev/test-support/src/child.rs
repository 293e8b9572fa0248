//! Starts the test binary again, to run the same test in another role in another process.

use std::io;
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

/// Appends a command to one that runs it, such as `unshare -m`: its program, its arguments and its
/// environment.
pub fn append(outer: &mut Command, inner: &Command) {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
}

/// Runs `test` of this binary as `role` in a process that may mount file systems, in a mount
/// namespace that ends with it. `unshare` gets the first of `flags` that is allowed here: `-m`
/// takes root; `-rm` also works for a user who may create user namespaces, but not every file system
/// can be mounted there. Returns the process's standard output. If no flag is allowed, prints that
/// the test is skipped, and returns `None`.
///
/// # Errors
///
/// Returns an error if the process cannot be started.
///
/// # Panics
///
/// Panics if the test fails in that process, or is not run.
pub fn run_with_mounts(test: &str, role: &str, flags: &[&str]) -> io::Result<Option<String>> {
    let allowed = |flag: &str| {
        let mounts = Command::new("unshare").args([flag, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        mounts.is_ok_and(|output| output.status.success())
    };
    let Some(flag) = flags.iter().find(|flag| allowed(flag)) else {
        println!("{test}: skipped, since `unshare -m` and `mount` are not allowed here");
        return Ok(None);
    };
    let mut outer = Command::new("unshare");
    outer.arg(flag);
    append(&mut outer, &command(test, role));
    let output = outer.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complains = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}\n{complains}", output.status);
    assert!(said.contains("1 passed"), "the test was not run: {said}");
    Ok(Some(said))
}
