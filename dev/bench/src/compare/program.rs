//! The program of `base/` as a process: its list of loads, and a process that runs them by name.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// One of the two programs.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Folder of its stores.
    pub(crate) stores: PathBuf,
    /// Commit that it was built from.
    pub(crate) title: String,
}

/// Description of a load, as the program prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// Name of one operation.
    pub(crate) unit: String,
    /// Whether the load waits for the disk.
    pub(crate) disk: bool,
    /// Whether its instructions can be counted.
    pub(crate) counted: bool,
    pub(crate) what: String,
}

impl Program {
    /// Lists its loads, in the order in which they run.
    pub(crate) fn loads(&self) -> Result<Vec<Load>> {
        output(Command::new(&self.path).arg("list"), &self.path)?.lines().map(load).collect()
    }
}

/// Runs a command and returns its standard output. If the command fails, the error contains its
/// standard error.
pub(crate) fn output(command: &mut Command, name: &Path) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {}", name.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", name.display(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses a line of `pongo-base list`.
fn load(line: &str) -> Result<Load> {
    let words: Vec<&str> = line.split('\t').collect();
    let [name, unit, disk @ ("disk" | "cpu"), counted @ ("counted" | "uncounted"), what] = words[..] else {
        bail!("this is no line about a load: {line:?}");
    };
    Ok(Load {
        name: name.to_owned(),
        unit: unit.to_owned(),
        disk: disk == "disk",
        counted: counted == "counted",
        what: what.to_owned(),
    })
}

/// A running program that executes loads by name. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Running {
    title: String,
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Running {
    /// Starts the program. It opens its stores when a load needs them.
    pub(crate) fn start(program: &Program, rows: u64) -> Result<Running> {
        let mut process = Command::new(&program.path)
            .arg("serve")
            .arg(&program.stores)
            .arg(rows.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.path.display()))?;
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("the program has no standard output")?);
        Ok(Running { title: program.title.clone(), process, orders, answers })
    }

    /// Runs a load and returns the nanoseconds of one operation.
    pub(crate) fn ask(&mut self, load: &str) -> Result<f64> {
        let orders = self.orders.as_mut().context("the program has been told to end")?;
        writeln!(orders, "{load}").with_context(|| format!("{}: gone before {load}", self.title))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", number)) => {
                let number: f64 = number.parse()?;
                ensure!(number > 0.0, "{}: {load} took {number} ns", self.title);
                Ok(number)
            }
            Some(("error", error)) => bail!("{}: {load}: {error}", self.title),
            _ => bail!("{}: ended during {load}", self.title),
        }
    }

    /// Ends the process cleanly, after it has closed its stores.
    pub(crate) fn end(mut self) -> Result<()> {
        self.orders = None;
        let status = self.process.wait()?;
        ensure!(status.success(), "{}: ended with {status}", self.title);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended, which is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_loads_are_read() {
        let get = load("get\tkey\tcpu\tcounted\tget of random keys").unwrap();
        assert_eq!(
            (get.name.as_str(), get.unit.as_str(), get.what.as_str()),
            ("get", "key", "get of random keys")
        );
        assert!(get.counted && !get.disk);
        let commit = load("commit\tcommit\tdisk\tuncounted\ta commit").unwrap();
        assert!(commit.disk && !commit.counted);
        for wrong in
            ["", "get\tkey\tcpu", "get\tkey\tram\tcounted\twhat", "get\tkey\tcpu\tcounted\twhat\tmore"]
        {
            assert!(load(wrong).is_err(), "{wrong:?}");
        }
    }
}
