//! Field types with arbitrary bytes: texts of fixed size, timestamps, UUIDs, optional values, and
//! references of rows to the heap.

use core::num::NonZeroU16;

use pongo::prelude::*;
use pongo::{HeapAddr, content_hash, zerocopy};
use pongo_core::fields::ExternalKey;
use zerocopy::{FromBytes, IntoBytes, TryFromBytes};

use crate::fuzz::image::still_store;
use crate::{Bytes, Note, RandomSource, Stop};

/// Tests the field types with arbitrary bytes.
pub fn fields(data: &[u8]) {
    let mut bytes = Bytes(data);
    let what = bytes.below(256);
    let mut some = [0; 48];
    some.iter_mut().for_each(|byte| *byte = bytes.below(256) as u8);
    match what % 4 {
        0 => {
            fixed::<1>(&some);
            fixed::<2>(&some);
            fixed::<7>(&some);
            fixed::<24>(&some);
            let other = FixedStr::<24>::read_from_bytes(&some[24..48]).expect("as many bytes");
            let one = FixedStr::<24>::read_from_bytes(&some[..24]).expect("as many bytes");
            assert_eq!(one.cmp(&other), some[..24].cmp(&some[24..48]));
            assert_eq!(one == other, some[..24] == some[24..48]);
        }
        1 => numbers(&some),
        2 => maybes(&some),
        _ => heap(&mut bytes, &some),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) {
    let text = FixedStr::<N>::read_from_bytes(&bytes[..N]).expect("as many bytes");
    let read = text.as_str();
    assert!(read.len() <= N && bytes.starts_with(read.as_bytes()) && !read.contains('\0'));
    assert_eq!(text.is_empty(), read.is_empty());
    let again = FixedStr::<N>::new(read).expect("what was read fits");
    assert_eq!(again.as_str(), read);
    assert_eq!(text.to_string(), read);
    assert!(!format!("{text:?}").is_empty());
    assert_eq!(text.as_padded_bytes(), &bytes[..N]);
    let given = String::from_utf8_lossy(bytes);
    match FixedStr::<N>::new(&given) {
        Ok(new) => assert_eq!(new.as_str(), given),
        Err(error) => assert!((given.len() > N || given.contains('\0')) && !error.to_string().is_empty()),
    }
}

fn numbers(bytes: &[u8]) {
    let moment = |at: usize| Timestamp::read_from_bytes(&bytes[at..at + 8]).expect("eight bytes");
    let (first, second) = (moment(0), moment(8));
    assert_eq!(first.cmp(&second), first.micros().cmp(&second.micros()));
    let text = first.to_string();
    assert!(text.ends_with('Z') && text.is_ascii(), "{text}");
    let time = first.to_system_time().expect("Linux can say it");
    assert_eq!(Timestamp::from_system_time(time), first);
    assert_eq!(Timestamp::from_micros(first.micros()), first);
    let seconds = first.micros();
    assert!(Timestamp::from_secs(seconds).is_none_or(|moment| moment.micros() / 1_000_000 == seconds));
    let uuid = Uuid::read_from_bytes(&bytes[16..32]).expect("sixteen bytes");
    let text = uuid.to_string();
    assert_eq!(text.parse::<Uuid>().ok(), Some(uuid), "{text}");
    if let Ok(given) = core::str::from_utf8(bytes)
        && let Ok(uuid) = given.parse::<Uuid>()
    {
        assert!(uuid.to_string().eq_ignore_ascii_case(given) || given.len() != 36);
    }
}

fn maybes(bytes: &[u8]) {
    macro_rules! one {
        ($bytes:expr, $($type:ty, $forbids:expr;)+) => {$({
            let there = $bytes[0] != 0;
            match Maybe::<$type>::try_read_from_bytes(&$bytes[..size_of::<Maybe<$type>>()]) {
                Ok(maybe) => {
                    assert_eq!((maybe.is_some(), maybe.is_none()), (there, !there));
                    assert_eq!(maybe.to_option().is_some(), maybe.get().is_some());
                    assert_eq!(maybe.get().is_some(), there);
                    assert!(!format!("{maybe:?}").is_empty());
                }
                Err(_) => assert!($forbids, "any tag and any value are a `Maybe` of this type"),
            }
        })+};
    }
    let mut absent = bytes.to_vec();
    absent[0] = 0;
    for bytes in [bytes, &absent] {
        one! { bytes,
            u8, false; i32, false; f64, false; Uuid, false; FixedStr<9>, false; Timestamp, false;
            bool, bytes[0] > 1 || bytes[1] > 1;
            NonZeroU16, bytes[0] > 1 || bytes[2..4] == [0, 0];
        }
    }
}

/// Tests forged addresses, lengths and hashes that differ slightly from correct ones.
fn heap(bytes: &mut Bytes<'_>, some: &[u8]) {
    let (store, _) = still_store();
    let snapshot = store.begin_read().expect("nothing goes wrong");
    let stops = snapshot.table::<Stop>().expect("the table");
    let names: Vec<Text> =
        stops.rows().filter_map(|stop| Some(stop.ok()?.name)).filter(|name| !name.is_empty()).collect();
    let known = names[bytes.below(names.len() as u64) as usize];
    let mut forged = IntoBytes::as_bytes(&known).to_vec();
    for (byte, change) in forged.iter_mut().zip(some) {
        *byte ^= change;
    }
    let text = Text::read_from_bytes(&forged).expect("sixteen bytes");
    let blob = Blob::read_from_bytes(&forged).expect("sixteen bytes");
    let key = ExternalKey::read_from_bytes(&forged).expect("sixteen bytes");
    let read = blob.as_bytes(&snapshot);
    match &read {
        Ok(read) if blob.is_empty() => assert!(read.is_empty()),
        Ok(read) => {
            assert_eq!(read.len(), blob.len() as usize);
            assert_eq!(content_hash(read), blob.content_hash());
            assert!(blob.addr().0.is_multiple_of(8));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(key.as_bytes(&snapshot).ok(), read.as_ref().ok().copied());
    match text.as_str(&snapshot) {
        Ok(text) => assert_eq!(read.ok(), Some(text.as_bytes())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let empty = Text::new(HeapAddr(text.addr().0), 0, 3);
    assert_eq!(IntoBytes::as_bytes(&empty), IntoBytes::as_bytes(&Text::EMPTY));
    assert_eq!(text.content_eq(&text, &snapshot).ok(), Some(true));
    assert_eq!(text.content_cmp(&known, &snapshot).is_ok(), text.as_bytes(&snapshot).is_ok());
    put(store, text);
    // A key that no row has, of any length.
    let notes = snapshot.external::<Note>().expect("the table");
    let len = bytes.below(80_000) as usize;
    let found = notes.get(some.repeat(1 + len / 48));
    assert!(found.is_err() || found.is_ok_and(|note| note.is_none()));
}

/// Puts a row with a forged text: it is rejected, or readable in the transaction. The transaction
/// is dropped, so nothing stays.
fn put(store: &Store, text: Text) {
    let tx = store.begin_write().expect("nothing goes wrong");
    let outcome = (|| {
        let mut stops = tx.table::<Stop>()?;
        stops.put(&Stop::new(99, 1, text))?;
        Ok::<_, pongo::WriteError>(stops.get(99)?.map(|stop| stop.name))
    })();
    match outcome {
        Ok(name) => {
            let bytes = |text: Text| IntoBytes::as_bytes(&text).to_vec();
            assert_eq!(name.map(bytes), Some(bytes(text)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Err(error) = text.as_str(&tx) {
        assert!(!error.to_string().is_empty());
    }
}
