//! A real disk that becomes full, and a real disk that fails: an ext4 image, mounted through a loop
//! device, in a tmpfs of limited size. When the tmpfs is full, the image's disk loses the data that
//! is written to it, and `fdatasync` returns EIO or ENOSPC.
//!
//! A child process mounts the image in a separate mount namespace, so that the mount ends with the
//! child. If that is not allowed, the tests print a message and stop.

#![cfg(target_os = "linux")]

mod mounted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mounted::fill::fill;
use mounted::{Known, run, unmount, with_mounts, word};
use pongo::OpenError;
use pongo_test_support::{Outcome, Random, wait, workload};

/// Size of the image in bytes, as the file system on it sees it.
const IMAGE: u64 = 48 << 20;
/// Size of the tmpfs in MiB: enough for the whole image, and too little for it.
const ENOUGH: u64 = 64;
const TOO_FEW: u64 = 40;

/// The two file systems; one is in a file of the other.
struct Disk {
    below: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn image(&self) -> PathBuf {
        self.below.join("image")
    }

    /// Creates the disk, with `below` MiB of space for the image: with less than the image's size
    /// the disk fails.
    fn make(folder: &Path, below: u64) -> Outcome<Disk> {
        let disk = Disk { below: folder.join("below"), at: folder.join("at") };
        fs::create_dir_all(&disk.below)?;
        fs::create_dir_all(&disk.at)?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={below}m"), "tmpfs", word(&disk.below)])?;
        fs::File::create(disk.image())?.set_len(IMAGE)?;
        // No space is reserved for root, because this runs as root. Blocks of one page: see
        // `try_mount`.
        run("mkfs.ext4", &["-q", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0", word(&disk.image())])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Outcome {
        // Another process on this machine may have taken the same free loop device at the same
        // moment.
        wait::retry(20, || self.try_mount())
    }

    /// Attaches the image to a loop device and mounts it.
    ///
    /// A loop device reports a write as done even if only its first pages found space (seen with
    /// Linux 6.18): such a disk acknowledges data that it lost, and the store promises nothing on
    /// one. So the device is limited to requests of one page, each of which is written or fails.
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
        // A mounted device is detached when it is unmounted.
        run("losetup", &["-d", device])?;
        mounted
    }

    /// Unmounts and mounts the disk, as a restart of the machine would.
    fn remount(&self) -> Outcome {
        unmount(&self.at)?;
        self.mount()
    }

    fn unmake(self) -> Outcome {
        unmount(&self.at)?;
        unmount(&self.below)
    }
}

/// Returns whether an image can be mounted here.
fn can_mount(name: &str, folder: &Path) -> Outcome<bool> {
    match Disk::make(folder, ENOUGH) {
        Ok(disk) => disk.unmake().map(|()| true),
        Err(error) => {
            println!("{name}: skipped, since no image can be mounted here: {error}");
            Ok(false)
        }
    }
}

/// Returns whether an error blames the file system and not the store's bytes: a failing disk does
/// not mean that the data on it is damaged.
fn blames_the_disk(error: &OpenError) -> bool {
    !matches!(error, OpenError::Storage(pongo::StorageError::Corrupt(_)))
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
        let mut rng = Random::seeded(NAME);
        let (mut acknowledged, mut unknown) = (0, 0);
        let (mut refused, mut poisoned, mut not_opened) = (0, 0, 0);
        for case in 0..cases() {
            let disk = Disk::make(folder, TOO_FEW)?;
            let path = disk.at.join("store.pongo");
            let mut known = Known::default();
            for round in 0..3 {
                let mut store = Some(workload::open(&path)?);
                for _ in 0..rng.below(8) {
                    assert!(known.transact(store.as_ref().expect("open")), "case {case}, round {round}");
                }
                let filler = fill(&disk.below, rng.below(64) << 12)?;
                for _ in 0..40 {
                    store = match store {
                        Some(store) if known.transact(&store) => Some(store),
                        Some(store) => {
                            // The result of closing is not reported, but closing must end.
                            drop(store);
                            None
                        }
                        None => match workload::open(&path) {
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
                let store = workload::open(&path)?;
                known.compare(&store)?;
                assert!(known.transact(&store), "there is space again");
                known.compare(&store)?;
                store.close()?;
            }
            acknowledged += known.done.len();
            disk.unmake()?;
        }
        println!(
            "{NAME}: {} disks, {acknowledged} transactions acknowledged, {unknown} unknown, {refused} \
             refused, {poisoned} times poisoned, {not_opened} times not opened, 0 failures",
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
        let mut rng = Random::seeded(NAME);
        let (mut acknowledged, mut refused, mut not_opened) = (0, 0, 0);
        for _ in 0..cases() {
            let disk = Disk::make(folder, ENOUGH)?;
            let path = disk.at.join("store.pongo");
            let mut known = Known::default();
            for round in 0..3 {
                // The store is opened, and in the first round created, with no or little free
                // space.
                let filler = fill(&disk.at, if round == 0 { 0 } else { rng.below(40) << 14 })?;
                match workload::open(&path) {
                    Ok(store) => {
                        for _ in 0..30 {
                            assert!(known.transact(&store), "a full disk poisons nothing: {}", known.last);
                        }
                        assert!(
                            known.unknown.is_empty(),
                            "a transaction refused for lack of space is not started: {known:?}"
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
                let store = workload::open(&path)?;
                if known.next > 0 {
                    known.compare(&store)?;
                }
                // The first transaction creates the tables.
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
            "{NAME}: {} disks, {acknowledged} transactions acknowledged, {refused} refused, {not_opened} \
             times not opened, 0 failures",
            cases() * 3
        );
        assert!(refused > 0 && not_opened > 0, "the disk was never full");
        Ok(())
    })
}
