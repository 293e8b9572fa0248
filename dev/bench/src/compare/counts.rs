//! Instructions of one operation, counted by valgrind's callgrind.
//!
//! The program runs each load twice, with its operations within one function. Callgrind counts only
//! while a thread is in that function, and writes a file each time the function returns; the
//! smaller of the two counts is compared. Other threads and processes, such as the background
//! thread of the ordered indexes, are not counted.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::program::{self, Program};

/// The function in which the program runs timed code.
const TIMED: &str = "pongo_base_timed";

/// Returns whether valgrind can be started.
pub(crate) fn available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Counts the instructions of one operation of each load, with `rows` rows in the main table.
/// Creates and removes `folder`.
pub(crate) fn count(program: &Program, loads: &[&str], rows: u64, folder: &Path) -> Result<Vec<f64>> {
    fs::create_dir(folder)?;
    let written = folder.join("counts");
    let mut command = Command::new("valgrind");
    command
        // Without fair scheduling, a thread that polls for another one can prevent it from
        // finishing.
        .args(["--quiet", "--tool=callgrind", "--fair-sched=yes"])
        .args([format!("--toggle-collect={TIMED}"), format!("--dump-after={TIMED}")])
        .arg(format!("--callgrind-out-file={}", written.display()))
        .arg(&program.path)
        .arg("count")
        .arg(&program.stores)
        .arg(rows.to_string())
        .args(loads);
    let said = program::output(&mut command, &program.path).context("under valgrind")?;
    let mut counts = vec![f64::INFINITY; loads.len()];
    for (nth, line) in said.lines().enumerate() {
        let path = folder.join(format!("counts.{}", nth + 1));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let instructions = instructions(&text).with_context(|| format!("no counts in {}", path.display()))?;
        let (name, operations) = line.split_once(' ').context("a load and its operations in a line")?;
        let load = loads.iter().position(|load| *load == name).context("a load that was asked for")?;
        counts[load] = counts[load].min(instructions / operations.parse::<f64>()?);
    }
    ensure!(counts.iter().all(|count| count.is_finite()), "callgrind did not count all of {loads:?}: {said}");
    fs::remove_dir_all(&program.stores)?;
    fs::remove_dir_all(folder)?;
    Ok(counts)
}

/// Returns the sum of a callgrind file, if callgrind wrote it because the function returned and the
/// sum is positive.
fn instructions(text: &str) -> Option<f64> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("desc: Trigger:").filter(|trigger| trigger.contains(TIMED))?;
    field("summary:")?.parse().ok().filter(|sum| *sum > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_callgrind_is_read() {
        let file =
            |trigger| format!("version: 1\ndesc: Trigger: {trigger}\nevents: Ir\nsummary: 14399\nfn=(1)\n");
        assert_eq!(instructions(&file("--dump-after=pongo_base_timed")), Some(14399.0));
        assert_eq!(instructions(&file("Program termination")), None);
        assert_eq!(instructions("desc: Trigger: --dump-after=pongo_base_timed\nsummary: 0\n"), None);
    }
}
