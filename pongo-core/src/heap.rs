//! Items in the heap: bytes of any length after a header of eight bytes with their length and hash.
//! Items begin at multiples of eight.
//!
//! ```text
//!  0     4      8
//!  | len | hash | bytes, filled up with zeros to a multiple of eight
//! ```

use std::io;

use crate::codec::{ByteReader, Put};
use crate::error::{ReadError, StorageError};
use crate::fields::{HeapError, content_hash};
use crate::guard::fails;
use crate::ids::HeapAddr;
use crate::space::SpaceView;

const HEADER: u64 = 8;

/// Appends an item to heap bytes that will begin at a multiple of eight.
pub(crate) fn stage(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_u32(content_hash(bytes));
    out.put_padded(bytes);
}

/// Returns the number of bytes that an item occupies.
pub(crate) fn item_len(bytes: u64) -> u64 {
    HEADER + bytes.next_multiple_of(8)
}

/// Returns the bytes of an item within a heap of `end` bytes, after checking bounds, header and
/// hash.
pub(crate) fn read(
    view: &SpaceView,
    end: u64,
    addr: HeapAddr,
    len: u32,
    hash: u32,
) -> Result<&[u8], HeapError> {
    let outside = || HeapError::Outside { addr, len, end: HeapAddr(end) };
    let whole = item_len(u64::from(len));
    if !addr.0.is_multiple_of(8) || addr.0.checked_add(whole).is_none_or(|item_end| item_end > end) {
        return Err(outside());
    }
    // SAFETY: the item is below a heap length that was published, or that was applied under the
    // writer lock which the reading transaction still holds, or below the bytes that this
    // transaction staged, which were written before their length was recorded. So the bytes are
    // written, and they are not overwritten before the transaction, which is borrowed for the
    // result, discards them.
    let item = unsafe { view.bytes(addr.0, whole) }.map_err(|fault| chunk_error(addr, fault))?;
    check(item, addr, len, hash)
}

/// Checks a complete item against the length and hash of a field, and returns its bytes.
pub(crate) fn check(item: &[u8], addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
    let mut reader = ByteReader::new(item);
    let (found_len, found_hash) = (reader.u32().unwrap_or(0), reader.u32().unwrap_or(0));
    if fails!("heap.item.header", (found_len, found_hash) != (len, hash)) {
        return Err(HeapError::Header { addr, len, hash, found_len, found_hash });
    }
    let bytes = reader.take(len as usize).ok_or(HeapError::Outside { addr, len, end: addr })?;
    let found = content_hash(bytes);
    if fails!("heap.item.hash", found != hash) {
        return Err(HeapError::Hash { addr, len, expected: hash, found });
    }
    Ok(bytes)
}

pub(crate) fn chunk_error(addr: HeapAddr, fault: StorageError) -> HeapError {
    HeapError::Chunk { addr, source: io::Error::other(fault) }
}

pub(crate) fn forked(addr: HeapAddr, error: ReadError) -> HeapError {
    HeapError::Chunk { addr, source: io::Error::other(error) }
}
