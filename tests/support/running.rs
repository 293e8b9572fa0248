//! A process that talks with the one that started it.
//!
//! It says things in lines that begin with `@ `; whatever the test harness prints beside is passed over.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Says a line to the parent, at once. A parent that is gone is no reason to fail.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("\n@ {line}\n").as_bytes());
    let _ = out.flush();
}

/// A running child. Killed when dropped.
pub(crate) struct Running {
    /// With its stdin.
    pub(crate) process: Child,
    /// What it says. Ends when the child is gone.
    pub(crate) lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the test starts itself");
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                // A line that was cut off by a kill was not said.
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

    #[allow(dead_code, reason = "not every test kills")]
    /// Kills it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
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
