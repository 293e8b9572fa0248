//! A child process that prints lines to the process that started it.
//!
//! These lines begin with `@ `; other output, such as that of the test harness, is ignored.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Prints a line to the parent and flushes it. Ignores errors, because the parent may have ended.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("\n@ {line}\n").as_bytes());
    let _ = out.flush();
}

/// A running child process. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    /// The process, with its stdin.
    pub process: Child,
    /// The lines that the child prints. The channel closes when the child has ended.
    pub lines: Receiver<String>,
}

impl Running {
    /// Starts a child with a piped stdin.
    ///
    /// # Panics
    ///
    /// Panics if the command cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the test starts itself");
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                // A line that was truncated by a kill is ignored.
                if let Some(said) = line.strip_prefix("@ ").and_then(|line| line.strip_suffix('\n'))
                    && send.send(said.to_owned()).is_err()
                {
                    return;
                }
                line.clear();
            }
        });
        Self { process, lines }
    }

    /// Kills the child with SIGKILL and waits until it has ended.
    ///
    /// # Panics
    ///
    /// Panics if it has already been waited for.
    pub fn kill(&mut self) {
        self.process.kill().expect("the child can be killed");
        self.process.wait().expect("the child is gone");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
