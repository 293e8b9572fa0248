//! Packing a folder into a file and unpacking it. Pages of zeros become holes, as in the files of a
//! store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pongo_test_support::packed::Files;

const PAGE: usize = 4096;

/// Reads all files of a folder.
pub(crate) fn read(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    read_into(folder, "", &mut files)?;
    Ok(files)
}

fn read_into(folder: &Path, above: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{above}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_into(&entry.path(), &format!("{path}/"), files)?;
            files.insert(path, None);
        } else {
            files.insert(path, Some(fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Packs files into one.
pub(crate) fn pack(files: &Files) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for (path, bytes) in files {
        all.extend_from_slice(&(path.len() as u64).to_le_bytes());
        all.extend_from_slice(path.as_bytes());
        let len = bytes.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
        all.extend_from_slice(&len.to_le_bytes());
        all.extend_from_slice(bytes.as_deref().unwrap_or_default());
    }
    zstd::encode_all(&all[..], 19)
}

/// Writes the files to a new folder.
pub(crate) fn lay_out(files: &Files, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // A folder comes before its contents.
    for (path, bytes) in files {
        let path = folder.join(path);
        let Some(bytes) = bytes else {
            fs::create_dir_all(path)?;
            continue;
        };
        let file = File::create(path)?;
        file.set_len(bytes.len() as u64)?;
        for (page, content) in bytes.chunks(PAGE).enumerate() {
            if content.iter().any(|&byte| byte != 0) {
                file.write_all_at(content, (page * PAGE) as u64)?;
            }
        }
    }
    Ok(())
}
