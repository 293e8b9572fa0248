//! A real disk that fills up, and a real one that fails: an ext4 image, mounted through a loop device, in a tmpfs of limited
//! size. When the tmpfs is full the image's disk loses what is written to it, and `fdatasync` answers with EIO or ENOSPC.
//!
//! It is mounted by a child in a mount namespace of its own, so that it is gone with it; where that is not allowed, the
//! tests say so and stop.

#![cfg(target_os = "linux")]

#[path = "mounted/fill.rs"]
mod fill;
mod mounted;
#[path = "../../../tests/support/child.rs"]
mod respawn;
#[path = "../../../tests/support/rng.rs"]
mod rng;
#[path = "calls/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fill::fill;
use mounted::{Known, run, unmount, with_mounts, word};
use pongo::OpenError;
use rng::Rng;
use world::Outcome;

/// Bytes of the image, as the file system on it sees them.
const IMAGE: u64 = 48 << 20;
/// MiB for the whole of it, and for less.
const ENOUGH: u64 = 64;
const TOO_FEW: u64 = 40;

/// The two file systems, one in a file of the other.
struct Disk {
    below: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn image(&self) -> PathBuf {
        self.below.join("image")
    }

    /// With so many MiB for the image: fewer than it has make a disk that fails.
    fn make(folder: &Path, below: u64) -> Outcome<Disk> {
        let disk = Disk { below: folder.join("below"), at: folder.join("at") };
        fs::create_dir_all(&disk.below)?;
        fs::create_dir_all(&disk.at)?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={below}m"), "tmpfs", word(&disk.below)])?;
        fs::File::create(disk.image())?.set_len(IMAGE)?;
        // No space is kept for root, who runs this. In blocks of one page, see `mount`.
        run("mkfs.ext4", &["-q", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0", word(&disk.image())])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Outcome {
        // Someone else on this machine may have taken the same free loop device at the same moment.
        let mut tries = 0..20;
        loop {
            match self.try_mount() {
                Err(_) if tries.next().is_some() => std::thread::sleep(Duration::from_millis(20)),
                outcome => return outcome,
            }
        }
    }

    /// A loop device takes a write for done of which only the first pages found space (seen with Linux 6.18): such a disk lies, and
    /// nothing is promised on one. So it is asked for one page at a time, which is written or fails.
    fn try_mount(&self) -> Outcome {
        let output = Command::new("losetup").args(["--find", "--show", word(&self.image())]).output()?;
        if !output.status.success() {
            return Err(format!("losetup: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let device = String::from_utf8(output.stdout)?;
        let device = device.trim();
        let name = device.trim_start_matches("/dev/");
        let mounted = fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4")
            .map_err(Into::into)
            .and_then(|()| run("mount", &[device, word(&self.at)]));
        // A device that is mounted goes when it is unmounted.
        run("losetup", &["-d", device])?;
        mounted
    }

    /// As after the machine was off and on.
    fn remount(&self) -> Outcome {
        unmount(&self.at)?;
        self.mount()
    }

    fn unmake(self) -> Outcome {
        unmount(&self.at)?;
        unmount(&self.below)
    }
}

/// Whether an image can be mounted here.
fn can_mount(name: &str, folder: &Path) -> Outcome<bool> {
    match Disk::make(folder, ENOUGH) {
        Ok(disk) => disk.unmake().map(|()| true),
        Err(error) => {
            println!("{name}: skipped, since no image can be mounted here: {error}");
            Ok(false)
        }
    }
}

/// Whether an error blames the file system, and not the store's bytes: a disk that fails is no damage to what was on it.
fn blames_the_disk(error: &OpenError) -> bool {
    !matches!(error, OpenError::Fault(pongo::Fault::Corrupt(_)))
}

fn cases() -> u64 {
    std::env::var("PONGO_TORTURE").ok().and_then(|times| times.parse().ok()).unwrap_or(1) * 6
}

#[test]
fn a_disk_that_fails() -> Outcome {
    const NAME: &str = "a_disk_that_fails";
    with_mounts(NAME, |folder| {
        if !can_mount(NAME, folder)? {
            return Ok(());
        }
        let mut rng = Rng::seeded(NAME);
        let (mut acknowledged, mut unknown) = (0, 0);
        let (mut refused, mut poisoned, mut not_opened) = (0, 0, 0);
        for case in 0..cases() {
            let disk = Disk::make(folder, TOO_FEW)?;
            let path = disk.at.join("store.pongo");
            let mut known = Known::default();
            for round in 0..3 {
                let mut store = Some(world::open(&path)?);
                for _ in 0..rng.below(8) {
                    assert!(known.transact(store.as_ref().expect("open")), "case {case}, round {round}");
                }
                let filler = fill(&disk.below, rng.below(64) << 12)?;
                for _ in 0..40 {
                    store = match store {
                        Some(store) if known.transact(&store) => Some(store),
                        Some(store) => {
                            // Nobody is told how this ends, and it must end.
                            drop(store);
                            None
                        }
                        None => match world::open(&path) {
                            Ok(store) => Some(store),
                            Err(error) => {
                                assert!(blames_the_disk(&error), "case {case}, round {round}: {error}");
                                not_opened += 1;
                                break;
                            }
                        },
                    };
                }
                unknown += known.unknown.len();
                refused += std::mem::take(&mut known.refused);
                poisoned += std::mem::take(&mut known.poisoned);
                drop(store);
                fs::remove_file(filler)?;
                disk.remount()?;
                let store = world::open(&path)?;
                known.compare(&store)?;
                assert!(known.transact(&store), "there is space again");
                known.compare(&store)?;
                store.close()?;
            }
            acknowledged += known.done.len();
            disk.unmake()?;
        }
        println!(
            "{NAME}: {} disks, {acknowledged} transactions acknowledged, {unknown} unknown, {refused} refused, {poisoned} \
             times poisoned, {not_opened} times not opened, 0 failures",
            cases() * 3
        );
        assert!(poisoned > 0, "the disk never failed");
        Ok(())
    })
}

#[test]
fn a_disk_that_is_full() -> Outcome {
    const NAME: &str = "a_disk_that_is_full";
    with_mounts(NAME, |folder| {
        if !can_mount(NAME, folder)? {
            return Ok(());
        }
        let mut rng = Rng::seeded(NAME);
        let (mut acknowledged, mut refused, mut not_opened) = (0, 0, 0);
        for _ in 0..cases() {
            let disk = Disk::make(folder, ENOUGH)?;
            let path = disk.at.join("store.pongo");
            let mut known = Known::default();
            for round in 0..3 {
                // Opened, and at first made, while there is no space, or a little.
                let filler = fill(&disk.at, if round == 0 { 0 } else { rng.below(40) << 14 })?;
                match world::open(&path) {
                    Ok(store) => {
                        for _ in 0..30 {
                            assert!(known.transact(&store), "a full disk poisons nothing: {}", known.last);
                        }
                        assert!(
                            known.unknown.is_empty(),
                            "what is refused for want of space is not begun: {known:?}"
                        );
                        known.compare(&store)?;
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("free some space"), "{error}");
                        not_opened += 1;
                    }
                }
                fs::remove_file(filler)?;
                disk.remount()?;
                let store = world::open(&path)?;
                if known.next > 0 {
                    known.compare(&store)?;
                }
                // The first one makes the tables.
                assert!(
                    known.transact(&store) && known.done.contains(&known.next),
                    "there is space again: {known:?}"
                );
                store.close()?;
            }
            (acknowledged, refused) = (acknowledged + known.done.len(), refused + known.refused);
            disk.unmake()?;
        }
        println!(
            "{NAME}: {} disks, {acknowledged} transactions acknowledged, {refused} refused, {not_opened} times not opened, 0 \
             failures",
            cases() * 3
        );
        assert!(refused > 0 && not_opened > 0, "the disk was never full");
        Ok(())
    })
}
