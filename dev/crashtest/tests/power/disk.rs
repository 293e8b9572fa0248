//! A disk whose power can be cut: an ext4 image, mounted through a loop device in this process's
//! own mount namespace, so that the mount ends with the process.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::live::Outcome;

/// How an image is created and mounted, and where it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Size of a block in bytes.
    pub(crate) block: u32,
    pub(crate) options: &'static str,
    /// Whether the image is in memory, which is faster.
    pub(crate) in_memory: bool,
}

impl Kind {
    /// Returns whether overwritten data goes through the file system's journal: then it may survive
    /// together with any data that is synced.
    pub(crate) fn journals_data(&self) -> bool {
        self.options.contains("data=journal")
    }
}

/// What happens to data that the file system has in memory. From linux/fs/ext4/ext4.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// All of it is written first.
    Nothing = 0,
    /// The file system's journal is written first.
    Data = 1,
    /// None of it is written.
    All = 2,
}

/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587D;
const SIZE: u64 = 96 << 20;

pub(crate) struct Disk {
    pub(crate) kind: Kind,
    pub(crate) mounted: PathBuf,
    device: String,
    /// Keeps the loop device while the image is not mounted, but no longer than this process lives.
    _held: File,
}

fn run(program: &str, arguments: &[&str]) -> Outcome {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// Mounts a folder in memory, which ends with this process.
pub(crate) fn mount_memory(folder: &Path) -> Outcome {
    Ok(mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(c"size=128m"))?)
}

fn text(path: &Path) -> Outcome<&str> {
    Ok(path.to_str().ok_or("paths are text here")?)
}

impl Disk {
    /// Creates an image in a folder and mounts it there.
    pub(crate) fn make(folder: &Path, kind: Kind) -> Outcome<Self> {
        let (below, mounted) = (folder.join("below"), folder.join("disk"));
        fs::create_dir_all(&below)?;
        fs::create_dir_all(&mounted)?;
        if kind.in_memory {
            mount_memory(&below)?;
        }
        let image = below.join("image");
        File::create(&image)?.set_len(SIZE)?;
        let (image, place) = (text(&image)?, text(&mounted)?);
        run("mkfs.ext4", &["-q", "-F", "-b", &kind.block.to_string(), image])?;
        run("mount", &["-t", "ext4", "-o", &format!("loop,{}", kind.options), image, place])?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let device = mounts.lines().find(|line| line.split(' ').nth(1) == Some(place));
        let device =
            device.and_then(|line| line.split(' ').next()).ok_or("the image is not mounted")?.to_owned();
        let held = File::open(&device)?;
        Ok(Self { kind, mounted, device, _held: held })
    }

    /// Cuts the power: from now on no data reaches the image.
    pub(crate) fn cut(&self, cut: Cut) -> Outcome {
        let root = File::open(&self.mounted)?;
        let flags = cut as u32;
        // SAFETY: the request reads one `u32`, which lives through the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
        if done != 0 {
            return Err(format!("EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error()).into());
        }
        Ok(())
    }

    /// Restores the power: the file system replays its journal. No process may have a file of it
    /// open.
    pub(crate) fn restart(&self) -> Outcome {
        self.unmount()?;
        let options = CString::new(self.kind.options)?;
        mount(self.device.as_str(), &self.mounted, "ext4", MountFlags::empty(), Some(options.as_c_str()))
            .map_err(|error| format!("mounting {} again: {error}", self.device))?;
        Ok(())
    }

    fn unmount(&self) -> Outcome {
        // Maps of a killed process end with it, but possibly not immediately.
        for _ in 0..2000 {
            match unmount(&self.mounted, UnmountFlags::empty()) {
                Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(1)),
                other => return Ok(other?),
            }
        }
        Err(format!("{} stays busy", self.mounted.display()).into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.mounted, UnmountFlags::DETACH);
        if self.kind.in_memory
            && let Some(folder) = self.mounted.parent()
        {
            let _ = unmount(folder.join("below"), UnmountFlags::DETACH);
        }
    }
}
