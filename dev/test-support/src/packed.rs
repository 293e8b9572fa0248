//! The format of a packed folder: names and bytes one after the other, compressed.

use std::collections::BTreeMap;
use std::io;

/// Files by path. `None` is a folder.
pub type Files = BTreeMap<String, Option<Vec<u8>>>;

/// Returns the files that were packed.
///
/// # Errors
///
/// Returns an error if `packed` is not a packed folder.
pub fn unpack(packed: &[u8]) -> io::Result<Files> {
    let all = zstd::decode_all(packed)?;
    let mut rest = &all[..];
    let mut files = Files::new();
    while !rest.is_empty() {
        let path = String::from_utf8_lossy(take_counted(&mut rest)?).into_owned();
        let bytes = match rest.first_chunk::<8>() {
            Some(len) if *len == [0xff; 8] => {
                rest = &rest[8..];
                None
            }
            _ => Some(take_counted(&mut rest)?.to_vec()),
        };
        files.insert(path, bytes);
    }
    Ok(files)
}

fn take_counted<'a>(rest: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let (len, behind) = rest.split_first_chunk::<8>().ok_or(io::ErrorKind::UnexpectedEof)?;
    let (bytes, behind) =
        behind.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
    *rest = behind;
    Ok(bytes)
}
