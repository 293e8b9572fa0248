//! Compares the program of `figures --base` with itself at a tiny size: every load runs and returns
//! correct results, and the harness alternates between the programs, summarizes and exits with the
//! right status. `src/compare/build.rs` tests that the program is built against two commits.

use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pongo-base");

fn figures(folder: &Path, programs: [&Path; 2], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pongo-bench"));
    command.args(["figures", "--base", "itself", "--rounds", "3", "--rows", "2k", "--programs"]);
    command.args(programs).arg("--dir").arg(folder).args(more);
    command.output().expect("the test built it")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints UTF-8")
}

#[test]
fn every_load_runs_and_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let output = figures(folder.path(), [Path::new(PROGRAM); 2], &[]);
    let printed = text(&output.stdout);
    let list = Command::new(PROGRAM).arg("list").output().unwrap();
    let loads: Vec<&str> = text(&list.stdout).lines().filter_map(|line| line.split('\t').next()).collect();
    assert!(loads.len() > 20, "{loads:?}");
    for load in &loads {
        assert!(printed.contains(&format!("| `{load}` |")), "{load}: {printed}{}", text(&output.stderr));
    }
    // At this size a load may become worse by chance; only the last line and the exit status must
    // agree.
    let last = printed.trim_end().lines().last().unwrap();
    assert!(last.starts_with(&format!("{} loads compared; better: ", loads.len())), "{last}");
    assert_eq!(output.status.success(), last.ends_with("worse: none"), "{last}");
}

/// Compares the program with a copy that prints a digit before each of its times: at least ten
/// times slower.
#[test]
fn what_is_slower_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nserve) '{PROGRAM}' \"$@\" | while read -r ok ns; do
         echo \"$ok 9$ns\"; done;;\n\
         *) exec '{PROGRAM}' \"$@\";;\nesac\n"
    );
    std::fs::write(&slow, script).unwrap();
    std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let loads = ["--only", "get,snapshot"];
    let output = figures(folder.path(), [&slow, Path::new(PROGRAM)], &loads);
    assert!(text(&output.stdout).ends_with("better: none; worse: snapshot, get\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    let output = figures(folder.path(), [Path::new(PROGRAM), &slow], &loads);
    assert!(text(&output.stdout).ends_with("better: snapshot, get; worse: none\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn unknown_load_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = figures(folder.path(), [Path::new(PROGRAM); 2], &["--only", "gett"]);
    assert!(text(&output.stderr).contains("no load is called \"gett\""), "{output:?}");
    assert_eq!(output.status.code(), Some(2));
}
