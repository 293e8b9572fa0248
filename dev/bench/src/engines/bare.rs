//! The lower bound of every durable commit: a `pwrite` of the rows and one `fdatasync`, to an
//! existing file.
//!
//! The file is filled with zeros and synced before it is used, like PongoDB's journal segments:
//! `fallocate` alone would leave unwritten extents, whose first write changes the file system's
//! metadata and makes the sync slower. The file has 64 MiB, and writing restarts at its beginning
//! when it is full. There is no index, no checksum and no way to read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Result, bail};
use zerocopy::IntoBytes;

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade};

const BYTES: u64 = 64 << 20;

/// The bare file; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "bare",
    title: "bare pwrite + fdatasync",
    open,
    open_indexed: None,
    stores: false,
    relaxed: true,
    journal_bytes: None,
    cut_power: None,
};

struct Bare {
    file: File,
    at: Mutex<u64>,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(folder.join("bare"))?;
    let zeros = vec![0u8; 1 << 20];
    for _ in 0..BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(Box::new(Bare { file, at: Mutex::new(0) }))
}

impl Engine for Bare {
    fn load(&self, _: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        bail!("the bare file stores nothing")
    }

    fn get(&self, _: &[Key]) -> Result<Found> {
        bail!("the bare file finds nothing")
    }

    fn scan(&self) -> Result<Found> {
        bail!("the bare file has no rows")
    }

    fn commit(&self, rows: &[Trade], durability: Durability) -> Result<()> {
        let bytes = rows.as_bytes();
        let mut at = self.at.lock().expect("no commit panics");
        if *at + bytes.len() as u64 > BYTES {
            *at = 0;
        }
        self.file.write_all_at(bytes, *at)?;
        *at += bytes.len() as u64;
        drop(at);
        if durability == Durability::Sync {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn snapshots(&self, _: u64) -> Result<()> {
        bail!("the bare file has no snapshots")
    }
}
