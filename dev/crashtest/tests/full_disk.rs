//! Full disks on real file systems, each in an image that is mounted through a loop device: a
//! closed store opens and is readable, transactions commit or are refused, the store is never
//! poisoned and the process never gets a signal. Some cases have stores through a map that need new
//! space, because the blocks belong to a snapshot or are shared with a copy of the store; there,
//! opening may return an error that says so.
//!
//! File systems that cannot be mounted here are skipped with a message.

#![cfg(target_os = "linux")]

mod mounted;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mounted::fill::fill;
use mounted::{Known, run, unmount, with_mounts, word};
use pongo::prelude::*;
use pongo_test_support::workload::Sample;
use pongo_test_support::{Outcome, Random, wait, workload};

/// Size of an image in bytes: mkfs.xfs requires at least 300 MiB. Most of them are never written.
const IMAGE: u64 = 320 << 20;

/// The file system, and whether the store's blocks are shared or replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ext4,
    /// The store is replaced by a copy with holes instead of zeros.
    Ext4Holes,
    Xfs,
    /// The store is copied while it is closed, and the copy shares its blocks.
    XfsCopied,
    Btrfs,
    BtrfsCompressed,
    /// Read-only snapshots of the subvolume are taken in each round, also while the store is open.
    BtrfsSnapshots,
    /// The store is replaced by a copy made as `docs/design/full-disk.md` advises.
    BtrfsCopied,
    Tmpfs,
    /// An overlay file system over btrfs with snapshots.
    Overlay,
}

impl Kind {
    /// Returns whether stores through a map never need space, so that all promises of `README.md`
    /// hold.
    fn is_in_place(self) -> bool {
        !matches!(self, Self::BtrfsSnapshots | Self::Overlay)
    }

    /// Returns whether a closed store opens when the disk is full.
    fn opens(self) -> bool {
        self.is_in_place() && !matches!(self, Self::Ext4Holes | Self::XfsCopied)
    }

    fn is_btrfs(self) -> bool {
        matches!(
            self,
            Self::Btrfs | Self::BtrfsCompressed | Self::BtrfsSnapshots | Self::BtrfsCopied | Self::Overlay
        )
    }
}

struct Disk {
    kind: Kind,
    image: PathBuf,
    at: PathBuf,
    /// Mount point of the overlay.
    over: PathBuf,
    snapshots: u32,
}

impl Disk {
    fn make(folder: &Path, kind: Kind) -> Outcome<Disk> {
        let path = |name: &str| folder.join(name);
        let disk = Disk { kind, image: path("image"), at: path("at"), over: path("over"), snapshots: 0 };
        fs::create_dir_all(&disk.at)?;
        fs::create_dir_all(&disk.over)?;
        let at = word(&disk.at);
        if kind == Kind::Tmpfs {
            run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", at])?;
            return Ok(disk);
        }
        let image = word(&disk.image);
        fs::File::create(&disk.image)?.set_len(IMAGE)?;
        match kind {
            Kind::Ext4 | Kind::Ext4Holes => run("mkfs.ext4", &["-q", "-m", "0", image])?,
            Kind::Xfs | Kind::XfsCopied => run("mkfs.xfs", &["-q", "-m", "reflink=1", image])?,
            _ => run("mkfs.btrfs", &["-q", image])?,
        }
        let options = if kind == Kind::BtrfsCompressed { "loop,compress-force=zstd" } else { "loop" };
        // Another process on this machine may have taken the same free loop device at the same
        // moment.
        wait::retry(20, || run("mount", &["-o", options, image, at]))?;
        if kind.is_btrfs() {
            run("btrfs", &["subvolume", "create", word(&disk.volume())])?;
        }
        if kind == Kind::Overlay {
            for name in ["lower", "upper", "work"] {
                fs::create_dir(disk.volume().join(name))?;
            }
            let dir = |name: &str| word(&disk.volume().join(name)).to_owned();
            let dirs = format!("lowerdir={},upperdir={},workdir={}", dir("lower"), dir("upper"), dir("work"));
            run("mount", &["-t", "overlay", "-o", &dirs, "overlay", word(&disk.over)])?;
        }
        Ok(disk)
    }

    fn unmake(self) -> Outcome {
        if self.kind == Kind::Overlay {
            unmount(&self.over)?;
        }
        unmount(&self.at)?;
        if self.kind != Kind::Tmpfs {
            fs::remove_file(self.image)?;
        }
        Ok(())
    }

    fn volume(&self) -> PathBuf {
        if self.kind.is_btrfs() { self.at.join("volume") } else { self.at.clone() }
    }

    fn store(&self) -> PathBuf {
        if self.kind == Kind::Overlay { self.over.clone() } else { self.volume() }.join("store.pongo")
    }

    /// Shares the store's blocks with a snapshot or a copy, or replaces the store by a copy.
    /// `open`: the store is open.
    fn share(&mut self, open: bool) -> Outcome {
        self.snapshots += 1;
        let other = self.at.join(self.snapshots.to_string());
        match self.kind {
            Kind::BtrfsSnapshots | Kind::Overlay => {
                run("btrfs", &["subvolume", "snapshot", "-r", word(&self.volume()), word(&other)])
            }
            Kind::Ext4Holes if !open => {
                run("cp", &["-r", "--sparse=always", word(&self.store()), word(&other)])?;
                fs::remove_dir_all(self.store())?;
                Ok(fs::rename(other, self.store())?)
            }
            Kind::BtrfsCopied if !open => {
                let other = self.volume().join(self.snapshots.to_string());
                fs::create_dir(&other)?;
                run("chattr", &["+C", word(&other)])?;
                run("cp", &["-r", "--reflink=never", word(&self.store().join(".")), word(&other)])?;
                fs::remove_dir_all(self.store())?;
                Ok(fs::rename(other, self.store())?)
            }
            // A copy of an open store is not valid.
            Kind::XfsCopied if !open => {
                run("cp", &["-r", "--reflink=always", word(&self.store()), word(&other)])
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether the kernel and the `mkfs` program for the file system are available.
fn is_there(kind: Kind) -> bool {
    let knows = |name: &str| {
        fs::read_to_string("/proc/filesystems")
            .is_ok_and(|all| all.lines().any(|line| line.split('\t').next_back() == Some(name)))
    };
    let has = |program: &str| Command::new(program).arg("-V").output().is_ok();
    match kind {
        Kind::Ext4 | Kind::Ext4Holes => knows("ext4") && has("mkfs.ext4"),
        Kind::Xfs | Kind::XfsCopied => knows("xfs") && has("mkfs.xfs"),
        Kind::Tmpfs => knows("tmpfs"),
        Kind::Overlay => knows("overlay") && knows("btrfs") && has("mkfs.btrfs"),
        _ => knows("btrfs") && has("mkfs.btrfs"),
    }
}

/// Returns whether an error says that the disk is full and tells the user to free some space.
fn says_full(error: &(dyn Error + 'static)) -> bool {
    let message = error.to_string();
    message.contains("free some space")
}

fn is_full(kind: Kind, error: &(dyn Error + 'static)) {
    assert!(says_full(error), "{kind:?}: {error}");
}

/// Counts of outcomes.
#[derive(Default, Debug)]
struct Counts {
    refused: u64,
    done: usize,
    opened: u32,
    not_opened: u32,
    not_read: u32,
}

/// Reads the whole store. Where stores through a map need space, a full disk may prevent that.
fn read(kind: Kind, known: &mut Known, store: &Store, counts: &mut Counts) -> Outcome {
    match known.compare(store) {
        Err(error) if !kind.is_in_place() => {
            is_full(kind, &*error);
            counts.not_read += 1;
            Ok(())
        }
        outcome => outcome,
    }
}

fn transact(kind: Kind, known: &mut Known, store: &Store) {
    for _ in 0..30 {
        assert!(known.transact(store), "{kind:?}: a full disk poisons nothing: {}", known.last);
    }
    assert!(
        known.unknown.is_empty(),
        "{kind:?}: a transaction refused for lack of space is not started: {known:?}"
    );
}

/// Returns the number of rounds: two, multiplied by `PONGO_TORTURE`.
fn rounds() -> u64 {
    std::env::var("PONGO_TORTURE").ok().and_then(|times| times.parse().ok()).unwrap_or(1) * 2
}

/// Fills rows in place while the disk becomes full: rows returned by `alloc_slice` remain writable.
fn fill_in_place(disk: &mut Disk, store: &Store) -> Outcome {
    let tx = store.begin_write()?;
    let mut table = tx.table::<Sample>()?;
    let mut rows = table.alloc_slice(20_000)?;
    rows[..10_000].iter_mut().for_each(|row| row.by = 1);
    disk.share(true)?;
    let filler = fill(&disk.volume(), 0)?;
    rows.iter_mut().for_each(|row| row.by = 2);
    drop(rows);
    drop(table);
    drop(tx);
    fs::remove_file(filler)?;
    rustix::fs::sync();
    Ok(())
}

fn a_full_disk(name: &str, kind: Kind) -> Outcome {
    with_mounts(name, |folder| {
        if !is_there(kind) {
            println!("{name}: skipped, since there is no such file system here, or no program to make one");
            return Ok(());
        }
        let mut rng = Random::seeded(name);
        let mut counts = Counts::default();
        let mut disk = match Disk::make(folder, kind) {
            Ok(disk) => disk,
            Err(error) => {
                println!("{name}: skipped, since it cannot be mounted here: {error}");
                return Ok(());
            }
        };
        let mut known = Known::default();
        for round in 0..rounds() {
            // With free space.
            let store = workload::open(&disk.store())?;
            for _ in 0..8 {
                assert!(known.transact(&store), "{kind:?}, round {round}: {}", known.last);
            }
            known.compare(&store)?;
            store.close()?;
            assert_eq!(known.done.len() as u64 + known.refused, known.next, "{kind:?}: {}", known.last);
            disk.share(false)?;
            // The disk becomes full after the store was closed.
            let filler = fill(&disk.volume(), 0)?;
            match workload::open(&disk.store()) {
                Ok(store) => {
                    counts.opened += 1;
                    read(kind, &mut known, &store, &mut counts)?;
                    if round % 2 == 0 {
                        transact(kind, &mut known, &store);
                        read(kind, &mut known, &store, &mut counts)?;
                    }
                    drop(store);
                }
                Err(error) => {
                    assert!(!kind.opens(), "{kind:?}, round {round}: {error}");
                    is_full(kind, &error);
                    counts.not_opened += 1;
                }
            }
            fs::remove_file(filler)?;
            rustix::fs::sync();
            // The disk becomes full, or nearly full, while the store is open.
            let store = workload::open(&disk.store())?;
            known.compare(&store)?;
            for _ in 0..3 {
                assert!(known.transact(&store), "{kind:?}, round {round}: {}", known.last);
            }
            fill_in_place(&mut disk, &store)?;
            disk.share(true)?;
            let filler = fill(&disk.volume(), rng.below(30) << 12)?;
            read(kind, &mut known, &store, &mut counts)?;
            transact(kind, &mut known, &store);
            read(kind, &mut known, &store, &mut counts)?;
            drop(store);
            fs::remove_file(filler)?;
            rustix::fs::sync();
            known.compare(&workload::open(&disk.store())?)?;
        }
        counts.refused = known.refused;
        counts.done = known.done.len();
        println!("{name}: {counts:?}, 0 failures");
        assert!(counts.refused > 0, "{kind:?}: the disk was never full");
        disk.unmake()
    })
}

#[test]
fn a_full_ext4() -> Outcome {
    a_full_disk("a_full_ext4", Kind::Ext4)
}

#[test]
fn a_full_ext4_with_holes() -> Outcome {
    a_full_disk("a_full_ext4_with_holes", Kind::Ext4Holes)
}

#[test]
fn a_full_xfs() -> Outcome {
    a_full_disk("a_full_xfs", Kind::Xfs)
}

#[test]
fn a_full_xfs_with_a_copy() -> Outcome {
    a_full_disk("a_full_xfs_with_a_copy", Kind::XfsCopied)
}

#[test]
fn a_full_btrfs() -> Outcome {
    a_full_disk("a_full_btrfs", Kind::Btrfs)
}

#[test]
fn a_full_btrfs_that_compresses() -> Outcome {
    a_full_disk("a_full_btrfs_that_compresses", Kind::BtrfsCompressed)
}

#[test]
fn a_full_btrfs_with_snapshots() -> Outcome {
    a_full_disk("a_full_btrfs_with_snapshots", Kind::BtrfsSnapshots)
}

#[test]
fn a_full_btrfs_with_a_copy() -> Outcome {
    a_full_disk("a_full_btrfs_with_a_copy", Kind::BtrfsCopied)
}

#[test]
fn a_full_tmpfs() -> Outcome {
    a_full_disk("a_full_tmpfs", Kind::Tmpfs)
}

#[test]
fn a_full_overlay_over_btrfs() -> Outcome {
    a_full_disk("a_full_overlay_over_btrfs", Kind::Overlay)
}
