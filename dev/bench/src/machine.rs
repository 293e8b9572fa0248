//! Measurements of the system: used memory and disk space, properties of the machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Returns the bytes of resident anonymous memory of this process, from `/proc/self/smaps_rollup`.
pub(crate) fn anonymous_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").context("reading /proc/self/smaps_rollup")?;
    let line = text.lines().find(|line| line.starts_with("Anonymous:")).context("no line `Anonymous:`")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number after `Anonymous:`")?.parse()?;
    Ok(kib << 10)
}

/// Returns the bytes on disk of everything in a folder, counted in allocated blocks.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Measures a random memory read whose address depends on the read before, in nanoseconds. The
/// memory of `bytes` bytes consists of cache lines, each with the number of the next one in a
/// random ring. A lookup in an index and then in the rows takes at least two such reads.
pub(crate) fn dependent_read(bytes: u64) -> f64 {
    const STEPS: usize = 1 << 20;
    let lines = (bytes / 64).max(2) as usize;
    let mut order: Vec<u32> = (0..lines as u32).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    let mut ring = vec![[0_u64; 8]; lines];
    for (place, &line) in order.iter().enumerate() {
        ring[line as usize][0] = u64::from(order[(place + 1) % lines]);
    }
    let mut at = 0;
    let mut walk = || {
        let started = std::time::Instant::now();
        for _ in 0..STEPS {
            at = ring[at as usize][0];
        }
        std::hint::black_box(at);
        started.elapsed().as_nanos() as f64 / STEPS as f64
    };
    walk();
    walk()
}

/// Returns the bytes available to this user on the disk of a folder.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Returns processor, cores, memory, kernel, file system and compiler, in one line.
pub(crate) fn facts(folder: &Path) -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("unknown".into(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let memory = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc =
        rustc.map_or("rustc unknown".into(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    format!(
        "{} × {}, {:.0} GiB memory, {}, Linux {}, {}",
        cores,
        field("/proc/cpuinfo", "model name"),
        memory as f64 / f64::from(1 << 20),
        file_system(folder).unwrap_or("unknown file system".into()),
        kernel.trim(),
        rustc
    )
}

/// Returns the type of the file system of a folder: that of the longest mount point that is a
/// prefix of its path.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    mounts
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_follows_an_allocation() {
        let before = anonymous_memory().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let with = anonymous_memory().unwrap();
        drop(block);
        assert!(with >= before + (60 << 20), "{before} -> {with}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes the file system allocate the file")]
    fn disk_bytes_counts_folders_inside() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/file"), vec![1u8; 1 << 20]).unwrap();
        fs::File::open(folder.path().join("in/file")).unwrap().sync_all().unwrap();
        assert!(disk_bytes(folder.path()).unwrap() >= 1 << 20);
    }
}
