//! Items in the heap: bytes of any length behind a header of eight bytes that says how many they are and what they hash
//! to. Items begin at multiples of eight.
//!
//! ```text
//!  0     4      8
//!  | len | hash | bytes, filled up with zeros to a multiple of eight
//! ```

use std::io;

use crate::codec::{Put, Reader};
use crate::error::{Fault, ReadError};
use crate::fields::{HeapError, content_hash};
use crate::guard::fails;
use crate::ids::HeapAddr;
use crate::space::View;

const HEADER: u64 = 8;

/// Appends an item to heap bytes that will begin at a multiple of eight.
pub(crate) fn stage(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_u32(content_hash(bytes));
    out.put_padded(bytes);
}

/// Bytes that an item takes.
pub(crate) fn item_len(bytes: u64) -> u64 {
    HEADER + bytes.next_multiple_of(8)
}

/// The bytes of an item within a heap of `end` bytes, checked in every way there is.
pub(crate) fn read(view: &View, end: u64, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
    let outside = || HeapError::Outside { addr, len, end: HeapAddr(end) };
    let whole = item_len(u64::from(len));
    if !addr.0.is_multiple_of(8) || addr.0.checked_add(whole).is_none_or(|item_end| item_end > end) {
        return Err(outside());
    }
    // SAFETY: the item lies below a heap length that was published, or applied under the writer lock that the
    // transaction which reads still holds, or below what that transaction staged, whose bytes were written before their length
    // was noted: written, and not written again before the transaction, which is borrowed for it, gives them up.
    let item = unsafe { view.bytes(addr.0, whole) }.map_err(|fault| chunk_error(addr, fault))?;
    check(item, addr, len, hash)
}

/// Checks a whole item against what a field says of it.
pub(crate) fn check(item: &[u8], addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
    let mut reader = Reader::new(item);
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

pub(crate) fn chunk_error(addr: HeapAddr, fault: Fault) -> HeapError {
    HeapError::Chunk { addr, source: io::Error::other(fault) }
}

pub(crate) fn forked(addr: HeapAddr, error: ReadError) -> HeapError {
    HeapError::Chunk { addr, source: io::Error::other(error) }
}
