//! The tracer: stops a process at each system call that concerns files and can answer the call in
//! the kernel's place.
//!
//! The child requests it with [`watch_me`], which installs a seccomp filter that stops the child at
//! the calls of [`Call`] and at no others. The tracer is the thread that started the child; only
//! that thread can wait for it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libc::{c_int, c_long, c_ulong, c_void, pid_t};

use crate::call::{Call, How};

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// It exited with this code.
    Exit(i32),
    /// It was killed by this signal. The child sets an alarm for itself, so a hang is `SIGALRM`.
    Signal(i32),
}

/// A call that is about to be made, as the tracer sees it.
pub(crate) struct Seen<'t> {
    pub(crate) call: Call,
    registers: &'t libc::user_regs_struct,
    thread: pid_t,
}

impl Seen<'_> {
    fn argument(&self, place: usize) -> u64 {
        let r = self.registers;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9][place]
    }

    /// Returns the second argument: the command of an `fcntl` call.
    pub(crate) fn command(&self) -> i32 {
        self.argument(1) as i32
    }

    /// Returns the third argument: the number of bytes to read or write.
    pub(crate) fn count(&self) -> u64 {
        self.argument(2)
    }

    /// Returns whether the call maps no file: a reservation of address space, or the one page by
    /// which a `fork` is detected. A store makes both in addition to the maps of its files.
    pub(crate) fn is_map_beside_files(&self) -> bool {
        let flags = self.argument(3) as i32;
        // The C library also reserves addresses for its own memory, in smaller pieces; if that
        // fails, it ends the process.
        let large = self.argument(1) >= 1 << 30 || flags & libc::MAP_FIXED != 0;
        let reserves = self.argument(2) == 0 && flags & libc::MAP_NORESERVE != 0 && large;
        let page = self.argument(1) == 4096 && flags & libc::MAP_ANONYMOUS != 0;
        self.call == Call::Map && (reserves || page)
    }

    /// Returns whether the call maps a file only to sync the file through the map: read-only, at an
    /// address that the kernel chooses.
    pub(crate) fn is_map_to_sync_by(&self) -> bool {
        let flags = self.argument(3) as i32;
        let is_of_a_file = flags & (libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE) == 0;
        self.call == Call::Map && is_of_a_file && self.argument(2) as i32 == libc::PROT_READ
    }

    /// Returns the path of the file or folder that the call concerns, or an empty string if there
    /// is none.
    pub(crate) fn path(&self) -> String {
        let number = self.registers.orig_rax as c_long;
        if Call::path_first(number) {
            return self.text(self.argument(0));
        }
        if self.call == Call::SyncMap {
            return self.mapped(self.argument(0));
        }
        let first = if self.call == Call::Map { self.argument(4) } else { self.argument(0) };
        let folder = self.descriptor(first as i32);
        if !Call::path_second(number) {
            return folder;
        }
        let name = self.text(self.argument(1));
        match name.as_str() {
            "" | "." => folder,
            name if name.starts_with('/') => name.to_owned(),
            name => format!("{folder}/{name}"),
        }
    }

    /// Returns the path of the file that is mapped at an address, or an empty string.
    fn mapped(&self, at: u64) -> String {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.thread)).unwrap_or_default();
        let from = format!("{at:08x}-");
        let line = maps.lines().find(|line| line.starts_with(&from));
        let path = line.and_then(|line| line.find('/').map(|start| &line[start..]));
        path.map_or(String::new(), |path| path.trim_end_matches(" (deleted)").to_owned())
    }

    fn descriptor(&self, number: i32) -> String {
        let link = match number {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.thread),
            number => format!("/proc/{}/fd/{number}", self.thread),
        };
        fs::read_link(link).map_or(String::new(), |path| path.display().to_string())
    }

    /// Reads the NUL-terminated text at an address of the process.
    fn text(&self, mut at: u64) -> String {
        let mut bytes = Vec::new();
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.thread)) else { return String::new() };
        while bytes.len() < libc::PATH_MAX as usize {
            // The next page may not be mapped, so read at most to the end of this page.
            let mut page = vec![0; 4096 - at as usize % 4096];
            let Ok(read @ 1..) = memory.read_at(&mut page, at) else { break };
            let part = &page[..read];
            match part.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    bytes.extend_from_slice(&part[..end]);
                    break;
                }
                None => bytes.extend_from_slice(part),
            }
            at += read as u64;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A traced process.
pub(crate) struct Traced {
    process: pid_t,
    threads: HashSet<pid_t>,
}

impl Traced {
    /// Starts a command. Its output goes to the file `said`.
    ///
    /// # Errors
    ///
    /// Returns the system's error if tracing is not allowed.
    pub(crate) fn start(command: &mut Command, said: &Path) -> io::Result<Traced> {
        let said = File::create(said)?;
        command.stdout(said.try_clone()?).stderr(said).stdin(std::process::Stdio::null());
        let trace_me = || ask(libc::PTRACE_TRACEME, 0, 0, 0).map(|_| ());
        // SAFETY: the closure runs in the child between `fork` and `exec` and makes one system
        // call; it takes no lock and allocates no memory.
        unsafe { command.pre_exec(trace_me) };
        let process = command.spawn()?.id() as pid_t;
        let mut traced = Traced { process, threads: HashSet::from([process]) };
        // The child stops when `exec` has replaced its program.
        let stopped = traced.wait()?;
        if !libc::WIFSTOPPED(stopped.1) {
            return Err(io::Error::other(format!("the child ended at once: {:x}", stopped.1)));
        }
        let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
        ask(libc::PTRACE_SETOPTIONS, process, 0, options as c_ulong)?;
        ask(libc::PTRACE_CONT, process, 0, 0)?;
        Ok(traced)
    }

    fn wait(&mut self) -> io::Result<(pid_t, c_int)> {
        loop {
            let mut status = 0;
            // SAFETY: the pointer is to a number that is alive and not otherwise used during the
            // call.
            let found = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if found > 0 {
                return Ok((found, status));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Lets the process run until it ends. Calls `judge` for each call; it returns how the call is
    /// to fail, if it is to fail. If `run` returns early, the kernel kills the process when this
    /// thread ends.
    pub(crate) fn run(mut self, mut judge: impl FnMut(&Seen<'_>) -> Option<How>) -> io::Result<Ended> {
        loop {
            let (thread, status) = self.wait()?;
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if thread != self.process {
                    continue;
                }
                return Ok(if libc::WIFEXITED(status) {
                    Ended::Exit(libc::WEXITSTATUS(status))
                } else {
                    Ended::Signal(libc::WTERMSIG(status))
                });
            }
            let signal = match (libc::WSTOPSIG(status), status >> 16) {
                (libc::SIGTRAP, libc::PTRACE_EVENT_SECCOMP) => {
                    self.at_call(thread, &mut judge)?;
                    0
                }
                (libc::SIGTRAP, 1..) => 0,
                // A new thread starts with a `SIGSTOP`.
                (libc::SIGSTOP, _) if self.threads.insert(thread) => 0,
                (signal, _) => signal,
            };
            gone_is_fine(ask(libc::PTRACE_CONT, thread, 0, signal as c_ulong))?;
        }
    }

    fn at_call(&self, thread: pid_t, judge: &mut impl FnMut(&Seen<'_>) -> Option<How>) -> io::Result<()> {
        // SAFETY: all fields are numbers, for which zero is a valid value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let address = &raw mut registers as c_ulong;
        if !gone_is_fine(ask(libc::PTRACE_GETREGS, thread, 0, address))? {
            return Ok(());
        }
        let Some(call) = Call::of(registers.orig_rax as c_long) else { return Ok(()) };
        match judge(&Seen { call, registers: &registers, thread }) {
            None => return Ok(()),
            Some(How::Short) => registers.rdx = (registers.rdx / 2).max(1),
            Some(How::Error(number)) => {
                // No call has this number, so the kernel performs none and returns the result that
                // is set here.
                registers.orig_rax = u64::MAX;
                registers.rax = i64::from(-number) as u64;
            }
        }
        gone_is_fine(ask(libc::PTRACE_SETREGS, thread, 0, &raw mut registers as c_ulong)).map(|_| ())
    }
}

/// Returns `false` if the thread no longer exists: a thread can be killed while it is stopped.
fn gone_is_fine(outcome: io::Result<c_long>) -> io::Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

fn ask(request: libc::c_uint, thread: pid_t, address: c_ulong, data: c_ulong) -> io::Result<c_long> {
    // SAFETY: of the requests that are made here only GETREGS and SETREGS use memory of this
    // process: `data` is the address of a `user_regs_struct` that is alive and not otherwise used
    // during the call.
    let outcome = unsafe { libc::ptrace(request, thread, address as *mut c_void, data as *mut c_void) };
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

/// Makes this thread, and the threads that it starts from now on, stop at every call that concerns
/// files. The process must be traced: otherwise these calls fail.
pub(crate) fn watch_me() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let numbers: Vec<u32> =
        Call::ALL.iter().flat_map(|call| call.numbers()).map(|&number| number as u32).collect();
    // The call's number is the first field of the data that a filter receives.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (place, &k) in numbers.iter().enumerate() {
        let (code, jt) =
            ((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, (numbers.len() - place) as u8);
        program.push(libc::sock_filter { code, jt, jf: 0, k });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no memory is passed.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the pointer is to a filter of `program.len()` instructions, which the kernel copies
    // during the call.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes `SIGALRM` end this process if it has not finished after this number of seconds.
pub(crate) fn end_after(seconds: u32) {
    // SAFETY: no memory is passed, and nothing else in these tests sets an alarm.
    unsafe { libc::alarm(seconds) };
}
