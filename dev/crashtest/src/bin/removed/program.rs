//! Test programs: built by cargo, listing their tests, running one test at a time.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::suites::Build;

/// A test of a test program.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) program: PathBuf,
    /// Folder of the package, in which cargo also runs its tests.
    folder: PathBuf,
    /// Title in the table.
    pub(crate) title: String,
    name: String,
}

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Passed,
    Failed,
    /// The test exceeded its time limit and was killed.
    Late,
}

/// Builds the programs with cargo (or the command in the variable `PONGO_CARGO`). Returns all their
/// tests.
pub(crate) fn tests_of(build: &Build, root: &Path, target: &Path) -> io::Result<Vec<Test>> {
    let cargo = std::env::var("PONGO_CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut words = cargo.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cargo"));
    command.args(words).args(["test", "--no-run", "--color", "never", "--target-dir"]).arg(target);
    for (package, program) in build.programs {
        command.args(["-p", package]);
        if *program != "lib" {
            command.args(["--test", program]);
        }
    }
    if build.programs.iter().any(|(_, program)| *program == "lib") {
        command.arg("--lib");
    }
    let output = command
        .current_dir(root)
        .env("RUSTFLAGS", build.flags)
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("the programs of {} do not build:\n{said}", build.name)));
    }
    let mut tests = Vec::new();
    for program in said.lines().filter_map(executable) {
        let program = if program.is_absolute() { program } else { root.join(program) };
        let stem = program.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let short = stem.rsplit_once('-').map_or(stem, |(short, _)| short);
        let Some(&(package, target)) = build.programs.iter().find(|(package, target)| {
            short == *target || *target == "lib" && short == package.replace('-', "_")
        }) else {
            continue;
        };
        // Two packages may have a program of the same name: either folder is fine, because no test
        // depends on it.
        let folder = match package {
            "pongo" => root.to_owned(),
            "pongo-sim" => root.join("dev/sim"),
            "pongo-crashtest" => root.join("dev/crashtest"),
            _ => root.join(package),
        };
        let listed = Command::new(&program).args(["--list", "--format", "terse"]).output()?;
        for name in String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|name| name.contains(build.only))
        {
            let title =
                if target == "lib" { format!("{package} {name}") } else { format!("{short}::{name}") };
            tests.push(Test {
                program: program.clone(),
                folder: folder.clone(),
                title,
                name: name.to_owned(),
            });
        }
    }
    Ok(tests)
}

/// Extracts the path from a line such as
/// `  Executable tests/engine/main.rs (target/debug/deps/engine-d7894378e2bac3d7)`.
fn executable(line: &str) -> Option<PathBuf> {
    let rest = line.trim_start().strip_prefix("Executable ")?;
    let (_, path) = rest.rsplit_once(" (")?;
    Some(path.strip_suffix(')')?.into())
}

impl Test {
    /// Runs the test without the safeguard `removed`. Records the safeguards that it reaches in
    /// `reached`, and its output in `log`.
    pub(crate) fn run(
        &self,
        removed: Option<&str>,
        reached: Option<&Path>,
        log: &Path,
        limit: Duration,
    ) -> io::Result<(End, Duration)> {
        let log = File::create(log)?;
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.name, "--test-threads=1", "--nocapture"]).current_dir(&self.folder);
        command.env_remove("PONGO_REMOVE").env_remove("PONGO_REMOVE_REACHED").env("RUST_BACKTRACE", "0");
        command.envs(removed.map(|name| ("PONGO_REMOVE", name)));
        command.envs(reached.map(|path| ("PONGO_REMOVE_REACHED", path)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let began = Instant::now();
        let mut child = command.spawn()?;
        let end = loop {
            match child.try_wait()? {
                Some(status) if status.success() => break End::Passed,
                Some(_) => break End::Failed,
                None if began.elapsed() > limit => break End::Late,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        end_all(&mut child);
        Ok((end, began.elapsed()))
    }
}

/// Kills the program, unless it has ended, and the processes that it left.
fn end_all(child: &mut Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // It is fine if the process group no longer exists.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}
