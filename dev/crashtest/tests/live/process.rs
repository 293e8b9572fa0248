//! Processes that print lines about their progress. Other output of the test harness is ignored.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::Outcome;

/// Prints a line for the parent and flushes it. If the parent no longer exists, this is not an
/// error.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("\n@ {line}\n").as_bytes());
    let _ = out.flush();
}

/// A process that was started. Dropping it kills the process.
pub(crate) struct Process {
    child: Child,
    #[allow(dead_code, reason = "not every test tells it something")]
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    /// An incomplete line.
    begun: Vec<u8>,
    /// Complete lines that were not processed yet.
    pub(crate) lines: VecDeque<String>,
    /// Whether its output has ended.
    pub(crate) silent: bool,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("stdout is piped")?;
        let stdin = child.stdin.take().ok_or("stdin is piped")?;
        fcntl_setfl(&stdout, fcntl_getfl(&stdout)? | OFlags::NONBLOCK)?;
        Ok(Self { child, stdin, stdout, begun: Vec::new(), lines: VecDeque::new(), silent: false })
    }

    /// Reads all output that is available. A line that a kill cut off is ignored.
    pub(crate) fn hear(&mut self) -> Outcome {
        let mut buffer = [0; 8192];
        while !self.silent {
            match self.stdout.read(&mut buffer) {
                Ok(0) => self.silent = true,
                Ok(read) => self.begun.extend(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            if let Some(said) = str::from_utf8(&line[..end])?.strip_prefix("@ ") {
                self.lines.push_back(said.to_owned());
            }
        }
        Ok(())
    }

    /// Kills the process with SIGKILL, and reads its last output.
    pub(crate) fn kill(&mut self) -> Outcome<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.hear()?;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
