//! Checks of the files in sled's folder before sled opens them.
//!
//! sled opens files by name without checking their type or length: a fifo makes it wait forever, a
//! link leads it anywhere, `conf`, the newest `snap.*` and blobs are read into memory completely,
//! and each half MiB of `db` without a page is written, truncated and synced separately. So types
//! and lengths are checked first. The limits follow from what sled 0.34.7 writes, with a wide
//! margin; whether the contents are valid is left to checksums, sled's and ours.

use std::fs::{self, File, FileType, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use pongo_core::guard::removable;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::StoreError;

/// Maximum length of `conf`, which has three lines and a checksum: about sixty bytes.
const CONF_BYTES: u64 = 64 << 10;

/// Maximum length of a snapshot per byte of content in `db`. A snapshot consists of two numbers, an
/// entry for each log message that a page consists of, and 12 bytes at the end. With a `db` of up
/// to a TiB, an entry takes at most 16 bytes for a freed page, 20 for a page or a change of it, and
/// 28 if that is stored in a blob; its message takes at least 8, 9 and 16 bytes of `db`. Snapshots
/// usually take some KiB.
const SNAP_BYTES_PER_DB_BYTE: u64 = 3;
/// Additional bytes that any snapshot may have: sled writes it when it opens, and `db` can shrink
/// afterwards.
const SNAP_SPARE: u64 = 1 << 20;

/// Bytes of `db` that may be holes whatever its content. sled writes whole segments of half a MiB
/// in up to 128 threads, and truncates them in as many, in any order. So that many segments can be
/// missing before an existing one, or exist again without content after the last one. Clearing them
/// takes sled a second.
const DB_SPARE: u64 = 256 << 20;
/// Bytes of a blob that may be holes. sled writes blobs from start to end.
const BLOB_SPARE: u64 = 1 << 20;
/// Maximum length of a file as a multiple of its content, in addition to the spare bytes. sled
/// leaves no holes: it clears free segments with zeros. A file system may store these as holes, and
/// sled moves the segments at the end once half of all segments are free.
const BYTES_PER_CONTENT: u64 = 8;

/// Checks each entry of sled's folder. Missing files are fine: sled creates them.
///
/// # Errors
/// Returns [`StoreError::Damaged`] if sled must not open the folder; [`StoreError::Locked`] in the
/// same case if another process has it open and so is responsible for it; [`StoreError::Io`].
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    match look_at(folder) {
        Err(StoreError::Damaged { .. }) if is_locked(&folder.join("db")) => {
            Err(StoreError::Locked { path: folder.display().to_string() })
        }
        looked => looked,
    }
}

fn look_at(folder: &Path) -> Result<(), StoreError> {
    let mut content = 0;
    let mut snaps = Vec::new();
    each(folder, |path, name, metadata| {
        let len = metadata.len();
        match name {
            "blobs" if metadata.is_dir() => return look_at_blobs(path),
            "blobs" => return Err(not("folder", path, metadata.file_type())),
            // sled opens no other files, whatever the folder contains.
            _ if name == "conf" || name == "db" || name.starts_with("snap.") => expect_file(path, metadata)?,
            _ => {}
        }
        match name {
            "conf" if len > CONF_BYTES => return Err(too_long(path, len, CONF_BYTES, "")),
            "db" => content = expect_content(path, len, DB_SPARE)?,
            _ if name.starts_with("snap.") => snaps.push((path.to_owned(), len)),
            _ => {}
        }
        Ok(())
    })?;
    let most = content.saturating_mul(SNAP_BYTES_PER_DB_BYTE).saturating_add(SNAP_SPARE);
    match snaps.into_iter().find(|&(_, len)| len > most) {
        Some((path, len)) => Err(too_long(&path, len, most, &format!(" beside {content} in `db`"))),
        None => Ok(()),
    }
}

fn look_at_blobs(folder: &Path) -> Result<(), StoreError> {
    each(folder, |path, name, metadata| {
        if name.parse::<i64>().is_err() {
            return Ok(());
        }
        expect_file(path, metadata)?;
        expect_content(path, metadata.len(), BLOB_SPARE).map(|_| ())
    })
}

/// Calls `look` with the path, the name and the metadata of each entry. Does not follow links.
fn each(
    folder: &Path,
    mut look: impl FnMut(&Path, &str, &Metadata) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("read the folder", folder.display().to_string(), error);
    let Some(entries) = unless_gone(fs::read_dir(folder)).map_err(failed)? else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // The process that has it open may remove files at any time.
        let Some(metadata) = unless_gone(entry.metadata()).map_err(failed)? else { continue };
        look(&entry.path(), &entry.file_name().to_string_lossy(), &metadata)?;
    }
    Ok(())
}

fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn expect_file(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    if metadata.is_file() { Ok(()) } else { Err(not("regular file", path, metadata.file_type())) }
}

/// Checks that a file does not consist mostly of holes, and returns the number of its bytes outside
/// holes.
fn expect_content(path: &Path, len: u64, spare: u64) -> Result<u64, StoreError> {
    let opened = unless_gone(File::open(path))
        .map_err(|error| StoreError::io("open", path.display().to_string(), error))?;
    let Some(file) = opened else { return Ok(0) };
    let Content { bytes, end } = content_of(&file, len)
        .map_err(|error| StoreError::io("write back", path.display().to_string(), error))?;
    // `end` is the limit for a file with much content.
    let most = end.min(bytes.saturating_mul(BYTES_PER_CONTENT)).saturating_add(spare);
    if len <= most {
        return Ok(bytes);
    }
    Err(too_long(path, len, most, &format!(" with {bytes} that are no holes, the last of them before {end}")))
}

/// The parts of a file outside holes: their bytes, and where the last one ends.
#[derive(PartialEq, Eq, Debug)]
struct Content {
    bytes: u64,
    end: u64,
}

/// Returns the parts of a file outside holes. A file system may report recently written data as a
/// hole, as FUSE with a writeback cache does; so if holes are reported, the file is synced and
/// queried again.
fn content_of(file: &File, len: u64) -> io::Result<Content> {
    let content = content(file, len);
    if content.bytes == len {
        return Ok(content);
    }
    removable!("ordered.holes.sync", file.sync_data())?;
    Ok(self::content(file, len))
}

/// Queries the file system for holes. Its answer includes data that is not written to disk yet
/// (with the exception handled by [`content_of`]) and is not reduced by compression; the number of
/// blocks on disk has neither property. A file system without support for holes reports none.
fn content(file: &File, len: u64) -> Content {
    let mut content = Content { bytes: 0, end: 0 };
    while content.end < len {
        let from = match seek(file, SeekFrom::Data(content.end)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            Err(_) => return Content { bytes: len, end: len },
        };
        match seek(file, SeekFrom::Hole(from)) {
            Ok(to) if to > from => content = Content { bytes: content.bytes + (to - from), end: to },
            _ => return Content { bytes: len, end: len },
        }
    }
    content
}

/// Returns whether a process has sled open. Called only if something is wrong, since the check can
/// keep other processes from opening sled at that moment.
fn is_locked(db: &Path) -> bool {
    fs::symlink_metadata(db).is_ok_and(|metadata| metadata.is_file())
        && File::open(db).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn too_long(path: &Path, len: u64, most: u64, with: &str) -> StoreError {
    let what = format!("expected at most {most} bytes{with}, found {len}");
    StoreError::Damaged { path: path.display().to_string(), what }
}

fn not(expected: &str, path: &Path, found: FileType) -> StoreError {
    let found = match found {
        _ if found.is_file() => "regular file",
        _ if found.is_dir() => "folder",
        _ if found.is_symlink() => "symbolic link",
        _ if found.is_fifo() => "fifo",
        _ if found.is_socket() => "socket",
        _ => "device",
    };
    let what = format!("expected a {expected}, found a {found}");
    StoreError::Damaged { path: path.display().to_string(), what }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Creates a file of length `len` with a MiB of content at each of these offsets.
    fn file_of(folder: &Path, places: &[u64], len: u64) -> Option<File> {
        let path = folder.join("db");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
        file.set_len(len).unwrap();
        for &at in places {
            file.write_all_at(&vec![1; MIB as usize], at).unwrap();
        }
        // Not every file system reports holes.
        (len == 0 || content(&file, len).bytes <= places.len() as u64 * MIB).then_some(file)
    }

    #[test]
    fn holes_are_told_from_content() {
        let folder = tempfile::tempdir().unwrap();
        let at = |places: &[u64], len| file_of(folder.path(), places, len).map(|file| content(&file, len));
        let is = |found: Option<Content>, bytes, end| {
            assert!(found.as_ref().is_none_or(|found| *found == Content { bytes, end }), "{found:?}");
        };
        is(at(&[], 0), 0, 0);
        is(at(&[], MIB), 0, 0);
        is(at(&[0], MIB), MIB, MIB);
        is(at(&[0, 4 * MIB], 100 * MIB), 2 * MIB, 5 * MIB);
        is(at(&[8 << 30], (8 << 30) + MIB), MIB, (8 << 30) + MIB);
    }

    #[test]
    fn holes_within_bounds_are_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("db");
        let gib = 1024 * MIB;
        for (places, len, is_fine) in [
            (&[0][..], MIB, true),
            (&[], DB_SPARE, true),
            (&[0], DB_SPARE + MIB, true),
            (&[0], DB_SPARE + MIB + 1, false),
            (&[0], 8 * gib, false),
            // Holes before the content: as a killed writer leaves them, and more than any writer
            // leaves.
            (&[128 * MIB], 129 * MIB, true),
            (&[8 * gib - MIB], 8 * gib, false),
        ] {
            if file_of(folder.path(), places, len).is_some() {
                let found = expect_content(&db, len, DB_SPARE);
                assert_eq!(found.is_ok(), is_fine, "{places:?} of {len}: {found:?}");
            }
        }
    }

    #[test]
    fn snapshot_length_is_bounded_by_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        check(&path.join("nothing")).unwrap();
        fs::write(path.join("db"), vec![1; MIB as usize]).unwrap();
        for name in ["snap.0000000000000001", "snap.0000000000000002.generating"] {
            let snap = File::create(path.join(name)).unwrap();
            snap.set_len(SNAP_SPARE + 3 * MIB).unwrap();
            check(path).unwrap();
            snap.set_len(SNAP_SPARE + 3 * MIB + 1).unwrap();
            assert!(matches!(check(path), Err(StoreError::Damaged { .. })));
            fs::remove_file(path.join(name)).unwrap();
        }
        // The length of a file that sled does not read does not matter.
        File::create(path.join("notes")).unwrap().set_len(1 << 40).unwrap();
        check(path).unwrap();
    }
}
