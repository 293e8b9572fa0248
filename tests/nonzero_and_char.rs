//! `NonZero` integers and `char` as fields, keys and indexes: their values come back in their order,
//! and bytes that are no value of the type are an invalid row.

use core::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};
use std::path::Path;

use pongo::prelude::*;
use pongo::{ReadError, VerifyStep, WriteError};
use pongo_test_support::{Outcome, Random};

#[pongo::record]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Inner {
    count: NonZeroU32,
    sign: char,
}

#[pongo::record]
#[pongo(table = "letters", index(letter, level))]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Letter {
    #[pongo(key)]
    id: NonZeroI32,
    #[pongo(key)]
    letter: char,
    #[pongo(index)]
    level: NonZeroI16,
    #[pongo(index)]
    next: Maybe<NonZeroU32>,
    #[pongo(index)]
    mark: Maybe<char>,
    #[pongo(unique)]
    code: NonZeroU64,
    wide: NonZeroU128,
    parts: [NonZeroU8; 3],
    pair: Maybe<[NonZeroU16; 2]>,
    signs: Maybe<[char; 2]>,
    inner: Maybe<Inner>,
}

/// The layout of [`Letter`], with integers that may be 0 and a number in place of the `char`.
#[pongo::record]
#[pongo(table = "letters")]
struct Loose {
    #[pongo(key)]
    id: i32,
    #[pongo(key)]
    letter: u32,
    level: i16,
    next: Maybe<u32>,
    mark: Maybe<u32>,
    code: u64,
    wide: u128,
    parts: [u8; 3],
    pair: Maybe<[u16; 2]>,
    signs: Maybe<[u32; 2]>,
    inner: Maybe<LooseInner>,
}

#[pongo::record]
struct LooseInner {
    count: u32,
    sign: u32,
}

const CHARS: [char; 8] = ['\0', 'A', 'z', 'é', '\u{d7ff}', '\u{e000}', '\u{ffff}', char::MAX];

fn letter(random: &mut Random, number: u64) -> Letter {
    let mut below = |end: u64| random.below(end);
    let char = |below: &mut dyn FnMut(u64) -> u64| CHARS[below(8) as usize];
    let level = NonZeroI16::new(below(4) as i16 * 300 - 450).unwrap_or(NonZeroI16::MIN);
    let next = NonZeroU32::new(below(4) as u32 * 0x4000_0001);
    let has = below(2) == 1;
    let id = (number as i32 + 1) * if has { 1 } else { -1 };
    Letter {
        id: NonZeroI32::new(id).unwrap_or(NonZeroI32::MIN),
        letter: char(&mut below),
        level,
        next: next.into(),
        mark: has.then(|| char(&mut below)).into(),
        code: NonZeroU64::MIN.saturating_add(number),
        wide: NonZeroU128::MAX,
        parts: [NonZeroU8::MIN, NonZeroU8::MAX, NonZeroU8::MIN],
        pair: has.then_some([NonZeroU16::MIN, NonZeroU16::MAX]).into(),
        signs: has.then_some(['x', '\0']).into(),
        inner: has.then_some(Inner { count: NonZeroU32::MIN, sign: 'é' }).into(),
    }
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    Ok(unsafe { Store::open(path)? })
}

fn fill(path: &Path, rows: u64) -> Outcome<Vec<Letter>> {
    let mut random = Random::seeded("nonzero_and_char");
    let mut letters: Vec<_> = (0..rows).map(|number| letter(&mut random, number)).collect();
    let store = open(path)?;
    let tx = store.begin_write()?;
    tx.table::<Letter>()?.extend(&letters)?;
    tx.commit()?;
    store.close()?;
    letters.sort_by_key(|row| (row.id, row.letter));
    Ok(letters)
}

fn collect(rows: pongo::Range<'_, Letter>) -> Result<Vec<Letter>, ReadError> {
    rows.map(|row| row.copied()).collect()
}

#[test]
fn rows_come_back_in_order() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let letters = fill(&path, 3000)?;
    let store = open(&path)?;
    store.catch_up_indexes()?;
    assert!(store.verify(|_| ())?.is_valid());
    let snapshot = store.begin_read()?;
    let rows = snapshot.table::<Letter>()?;
    for row in &letters {
        assert_eq!(rows.get((row.id, row.letter))?, Some(row));
        assert_eq!(rows.by(Letter::CODE).eq(row.code)?.next().transpose()?, Some(row));
    }
    assert_eq!(collect(rows.range(..)?)?, letters);
    let middle = (NonZeroI32::new(-9).ok_or("not 0")?, 'é')..(NonZeroI32::new(40).ok_or("not 0")?, '\0');
    let expected = letters.iter().filter(|row| middle.contains(&(row.id, row.letter))).copied();
    assert_eq!(collect(rows.range(middle.clone())?)?, expected.collect::<Vec<_>>());

    let levels: Vec<_> = collect(rows.by(Letter::LEVEL).all()?)?.iter().map(|row| row.level).collect();
    assert!(levels.is_sorted() && levels.len() == 3000 && levels[0].get() < 0);
    let nexts: Vec<_> = collect(rows.by(Letter::NEXT).all()?)?.iter().map(|row| row.next).collect();
    assert!(nexts.is_sorted() && nexts[0].is_none() && nexts[2999].is_some());
    let marks: Vec<_> = collect(rows.by(Letter::MARK).all()?)?.iter().map(|row| row.mark).collect();
    assert!(marks.is_sorted() && marks[0].is_none() && marks[2999] == Maybe::some(char::MAX));
    let both: Vec<_> = collect(rows.by((Letter::LETTER, Letter::LEVEL)).range(('é', NonZeroI16::MIN)..)?)?
        .iter()
        .map(|row| (row.letter, row.level))
        .collect();
    let expected = letters.iter().filter(|row| row.letter >= 'é').count();
    assert!(both.is_sorted() && both.len() == expected && both[0].0 == 'é');
    let expected = letters.iter().filter(|row| row.next.is_none()).count();
    assert_eq!(rows.by(Letter::NEXT).eq(Maybe::none())?.count(), expected);
    Ok(())
}

#[test]
fn filters_compare_values() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let letters = fill(&path, 20_000)?;
    let store = open(&path)?;
    let snapshot = store.begin_read()?;
    let rows = snapshot.table::<Letter>()?;
    let count = |wanted: &dyn Fn(&Letter) -> bool| letters.iter().filter(|row| wanted(row)).count();
    let (low, high) = (NonZeroI16::new(-150).ok_or("not 0")?, NonZeroI16::new(150).ok_or("not 0")?);
    assert_eq!(rows.filter(Letter::LEVEL.lt(high)).count(), count(&|row| row.level < high));
    assert_eq!(
        rows.filter(Letter::LEVEL.between(low..=high)).count(),
        count(&|row| row.level.get().abs() < 151)
    );
    assert_eq!(rows.filter(Letter::LETTER.ge('é')).count(), count(&|row| row.letter >= 'é'));
    assert_eq!(rows.filter(Letter::LETTER.is_in(&['A', 'b'])).count(), count(&|row| row.letter == 'A'));
    let next = NonZeroU32::new(0x4000_0001).ok_or("not 0")?;
    assert_eq!(rows.filter(Letter::NEXT.eq(next)).count(), count(&|row| row.next == Maybe::some(next)));
    assert_eq!(rows.filter(Letter::NEXT.is_none()).count(), count(&|row| row.next.is_none()));
    assert_eq!(rows.filter(Letter::MARK.gt('z')).count(), count(&|row| row.mark > Maybe::some('z')));
    let code = NonZeroU64::new(19_000).ok_or("not 0")?;
    assert_eq!(rows.filter(Letter::CODE.gt(code)).count(), 1000);
    assert_eq!(rows.filter(Letter::PARTS.ne([NonZeroU8::MIN; 3])).count(), 20_000);
    assert_eq!(rows.filter(Letter::ID.lt(NonZeroI32::MIN)).count(), 0);
    let shown = format!("{}", Letter::LETTER.eq('é'));
    assert_eq!(shown, "letter == 'é'");
    Ok(())
}

/// Writes bytes over a field of the only row, which no checksum covers yet, and returns the error of
/// reading it.
fn damaged(column: usize, bytes: &[u8]) -> Outcome<(ReadError, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    tx.table::<Letter>()?.insert(&letter(&mut Random::seeded("damaged"), 0))?;
    tx.commit()?;
    let chunk = std::fs::File::options().write(true).open(path.join("tables/letters/0.chunk"))?;
    std::os::unix::fs::FileExt::write_all_at(&chunk, bytes, 4096 + column as u64)?;
    let snapshot = store.begin_read()?;
    let error = snapshot.table::<Letter>()?.rows().next().ok_or("a row")?.err().ok_or("an error")?;
    let report = store.verify(|_| ())?;
    let issue =
        report.issues.iter().find(|issue| issue.step == VerifyStep::Rows && issue.what.contains("field"));
    Ok((error, issue.map_or_else(|| report.to_string(), |issue| issue.what.clone())))
}

#[test]
fn damaged_values_are_invalid_rows() -> Outcome {
    let no_char = 0xd800_u32.to_le_bytes();
    let zero_present = [1, 0, 0, 0, 0, 0, 0, 0];
    for (column, bytes, expected) in [
        (Letter::ID.offset(), &[0; 4][..], "field id of type nonzero_i32: expected another number than 0"),
        (
            Letter::LETTER.offset(),
            &no_char,
            "field letter of type char: expected a Unicode scalar value, found 0xd800",
        ),
        (Letter::LETTER.offset(), &[0, 0, 0x11, 0], "found 0x110000"),
        (Letter::LEVEL.offset(), &[0; 2], "field level of type nonzero_i16"),
        (
            Letter::NEXT.offset(),
            &zero_present,
            "field next of type maybe<nonzero_u32>: expected another number than 0",
        ),
        (Letter::NEXT.offset(), &[2], "expected a tag of 0 or 1"),
        (Letter::MARK.offset(), &[1, 0, 0, 0, 0, 0xd8, 0, 0], "field mark of type maybe<char>"),
        (Letter::WIDE.offset(), &[0; 16], "field wide of type nonzero_u128"),
        (Letter::PARTS.offset() + 1, &[0], "field parts of type [nonzero_u8; 3]"),
        (Letter::PAIR.offset(), &[1, 0, 1, 0, 0, 0], "field pair of type maybe<[nonzero_u16; 2]>"),
        (Letter::INNER.offset() + 4, &[0; 4], "field inner of type"),
    ] {
        let (error, issue) = damaged(column, bytes)?;
        assert!(matches!(error, ReadError::InvalidRow { .. }), "{expected}: {error}");
        assert!(issue.contains(expected), "{expected}: {issue}");
    }
    Ok(())
}

#[test]
fn integer_and_non_zero_are_other_layouts() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    fill(&path, 1)?;
    assert_eq!(Letter::SCHEMA.size, Loose::SCHEMA.size);
    let store = open(&path)?;
    let error = store.begin_read()?.table::<Loose>().err().ok_or("an error")?.to_string();
    for line in ["id: nonzero_i32", "letter: char", "next: maybe<nonzero_u32>", "parts: [nonzero_u8; 3]"] {
        assert!(error.contains(line), "{line}: {error}");
    }
    assert!(store.begin_write()?.table::<Loose>().is_err());
    Ok(())
}

#[pongo::record]
#[pongo(table = "zeroable")]
struct Zeroable {
    #[pongo(key)]
    id: u64,
    next: Maybe<NonZeroU64>,
    letter: char,
    count: Maybe<[NonZeroU32; 2]>,
}

#[pongo::record]
#[pongo(table = "never_zero")]
struct NeverZero {
    #[pongo(key)]
    id: NonZeroU64,
}

/// A row of zeros is valid if its `NonZero` values may be absent.
#[test]
fn rows_are_filled_in_place() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut rows = tx.table::<Zeroable>()?;
    let mut row = rows.alloc()?;
    assert_eq!((row.next.get(), row.letter, row.count.get()), (None, '\0', None));
    row.letter = 'ß';
    row.next = NonZeroU64::MAX.into();
    row.insert()?;
    assert_eq!(rows.get(0)?.map(|row| (row.next.get(), row.letter)), Some((Some(&NonZeroU64::MAX), 'ß')));
    let mut never = tx.table::<NeverZero>()?;
    assert!(matches!(never.alloc().err(), Some(WriteError::NotZeroable { .. })));
    never.insert(&NeverZero { id: NonZeroU64::MIN })?;
    let error = never.insert(&NeverZero { id: NonZeroU64::MIN }).err().ok_or("an error")?;
    assert!(error.to_string().contains("id = 1"), "{error}");
    Ok(())
}

/// Values of one type as key, as index and in a `Maybe`, in order after a reopen.
macro_rules! widths {
    ($($module:ident $type:ident;)*) => {$(
        mod $module {
            use super::*;

            #[pongo::record]
            #[derive(Clone, Copy)]
            struct Row {
                #[pongo(key)]
                key: $type,
                #[pongo(index)]
                value: $type,
                #[pongo(index)]
                maybe: Maybe<$type>,
                many: Maybe<[$type; 3]>,
            }

            #[test]
            fn values_are_stored_in_order() -> Outcome {
                let folder = tempfile::tempdir()?;
                let path = folder.path().join("store");
                let numbers = [100, 1, -1, -100, 7];
                let mut values = vec![$type::MIN, $type::MAX];
                values.extend(numbers.into_iter().filter_map(|number| $type::new(number as _)));
                let store = open(&path)?;
                let tx = store.begin_write()?;
                let mut rows = tx.table::<Row>()?;
                for value in &values {
                    let (key, value) = (*value, *value);
                    rows.put(&Row { key, value, maybe: Maybe::some(value), many: Maybe::some([value; 3]) })?;
                }
                drop(rows);
                tx.commit()?;
                store.close()?;
                values.sort();
                values.dedup();

                let store = open(&path)?;
                let snapshot = store.begin_read()?;
                let rows = snapshot.table::<Row>()?;
                let keys = rows.range(..)?.map(|row| Ok(row?.key)).collect::<Result<Vec<_>, ReadError>>()?;
                assert_eq!(keys, values);
                let of = |rows: pongo::Range<'_, Row>| {
                    rows.map(|row| Ok(row?.value)).collect::<Result<Vec<_>, ReadError>>()
                };
                assert_eq!(of(rows.by(Row::VALUE).all()?)?, values);
                assert_eq!(of(rows.by(Row::MAYBE).all()?)?, values);
                let some = rows.get(values[1])?.ok_or("it was put")?;
                assert_eq!(some.many.to_option(), Some([values[1]; 3]));
                assert_eq!(of(rows.by(Row::VALUE).range(values[1]..values[3])?)?, values[1..3]);
                assert_eq!(rows.filter(Row::VALUE.ge(values[2])).count(), values.len() - 2);
                Ok(())
            }
        }
    )*};
}

widths! {
    u8_ NonZeroU8;
    u16_ NonZeroU16;
    u32_ NonZeroU32;
    u64_ NonZeroU64;
    u128_ NonZeroU128;
    i8_ NonZeroI8;
    i16_ NonZeroI16;
    i32_ NonZeroI32;
    i64_ NonZeroI64;
    i128_ NonZeroI128;
}
