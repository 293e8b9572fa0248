//! `verify`, `stats` and `rebuild_index`: sound data is reported as sound, damage is named, and
//! rebuilt where that is possible.

use std::path::Path;

use pongo::VerifyStep;
use pongo::prelude::*;
use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "books")]
struct Book {
    #[pongo(key)]
    id: u64,
    title: Text,
    #[pongo(unique)]
    isbn: u64,
    #[pongo(index)]
    year: u16,
    lent: bool,
    _pad: [u8; 5],
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    Ok(unsafe { Store::open(path)? })
}

/// Writes 20,000 books to disk, replaces a tenth of them and deletes another tenth.
fn fill(path: &Path) -> Outcome {
    let store = open(path)?;
    let book = |id: u64, title| Book {
        id,
        title,
        isbn: id ^ 0x5555,
        year: 1900 + (id % 120) as u16,
        lent: id.is_multiple_of(3),
        _pad: [0; 5],
    };
    let tx = store.begin_write()?;
    let titles = (0..20_000_u64).map(|id| tx.text(&format!("book {id}"))).collect::<Result<Vec<_>, _>>()?;
    tx.table::<Book>()?.extend((0..20_000).map(|id| book(id, titles[id as usize])))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    for id in 0..2000 {
        tx.table::<Book>()?.update(id * 10, |book| book.year += 1)?;
        tx.table::<Book>()?.delete(id * 10 + 1)?;
    }
    tx.commit()?;
    store.catch_up_indexes()?;
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    assert_eq!((report.rows, report.heap_items), (22_000, 18_000));
    store.close()?;
    Ok(())
}

fn flip(path: &Path, at: u64) -> Outcome {
    let mut bytes = std::fs::read(path)?;
    bytes[at as usize] ^= 1;
    std::fs::write(path, bytes)?;
    Ok(())
}

#[test]
fn verify_reports_progress() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("books.pongo");
    fill(&path)?;
    let store = open(&path)?;
    let mut steps = Vec::new();
    let report = store.verify(|progress| {
        assert!(progress.done <= progress.rows || progress.step == VerifyStep::Ordered);
        if steps.last() != Some(&progress.step) {
            steps.push(progress.step);
        }
    })?;
    assert!(report.is_valid(), "{report}");
    assert_eq!(steps, [VerifyStep::Rows, VerifyStep::Hash, VerifyStep::Ordered]);
    assert!(report.to_string().ends_with("sound"), "{report}");
    Ok(())
}

#[test]
fn flipped_row_bit_is_located() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("books.pongo");
    fill(&path)?;
    flip(&path.join("tables/books/0.chunk"), 4096 + 3 * 48 + 30)?;
    let store = open(&path)?;
    let report = store.verify(|_| ())?;
    assert!(!report.is_valid());
    let first = &report.issues[0];
    assert_eq!((&first.table[..], first.step), ("books", VerifyStep::Rows));
    assert!(first.what.contains("0.chunk") && first.what.contains("checksum"), "{report}");
    Ok(())
}

#[test]
fn flipped_heap_bit_is_located() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("books.pongo");
    fill(&path)?;
    flip(&path.join("heap/0.chunk"), 4096 + 70_000)?;
    let store = open(&path)?;
    let report = store.verify(|_| ())?;
    assert!(report.issues.iter().any(|problem| problem.what.contains("heap")), "{report}");
    Ok(())
}

#[pongo::record]
#[pongo(table = "pages", key = "external")]
struct Page {
    visits: u64,
}

/// Damages rows that no checksum covers yet, because they were written after the last checkpoint.
#[test]
fn wrong_key_digest_is_located() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pages.pongo");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    for visits in 0..10 {
        tx.external::<Page>()?.put(format!("page {visits}"), &Page { visits })?;
    }
    tx.commit()?;
    assert!(store.verify(|_| ())?.is_valid());
    // After the chunk's header each row has a digest (16 bytes), the address of the key in the
    // heap, and the record.
    let chunk = std::fs::File::options().read(true).write(true).open(path.join("tables/pages/0.chunk"))?;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&chunk, &mut byte, 4096)?;
    std::os::unix::fs::FileExt::write_all_at(&chunk, &[byte[0] ^ 1], 4096)?;
    let report = store.verify(|_| ())?;
    let digest =
        |problem: &pongo::VerifyIssue| problem.step == VerifyStep::Rows && problem.what.contains("digest");
    assert!(report.issues.iter().any(digest), "{report}");
    Ok(())
}

#[test]
fn rebuild_while_store_is_open() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("books.pongo");
    fill(&path)?;
    let store = open(&path)?;
    let old = store.begin_read()?;
    let tx = store.begin_write()?;
    tx.table::<Book>()?.delete(2)?;
    tx.commit()?;
    store.rebuild_index::<Book>()?;
    store.rebuild_indexes()?;
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    // The new indexes also contain the rows that an older snapshot sees.
    let books = old.table::<Book>()?;
    assert!(books.get(2)?.is_some());
    assert_eq!(books.count(..)?, 18_000);
    assert!(books.by(Book::ISBN).eq(2 ^ 0x5555)?.next().is_some());
    let stats = store.stats()?;
    let table = &stats.tables[0];
    assert_eq!((table.rows, table.live, table.deleted), (22_000, 17_999, 4001));
    assert!(table.indexes.iter().all(|index| index.lag == 0 && index.pairs >= table.live), "{stats}");
    let names: Vec<_> = table.indexes.iter().map(|index| &index.fields[..]).collect();
    assert_eq!(names, ["id", "isbn", "year"]);
    assert!(stats.bytes.rows > 22_000 * 48 && stats.bytes.hash > 0 && stats.bytes.ordered > 0, "{stats}");
    Ok(())
}

#[test]
fn damaged_ordered_index_is_quarantined() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("books.pongo");
    fill(&path)?;
    let mut harmed = false;
    for entry in std::fs::read_dir(path.join("ordered/sled"))? {
        let file = entry?.path();
        if file.is_file() {
            let mut bytes = std::fs::read(&file)?;
            for byte in bytes.iter_mut().skip(64).step_by(97) {
                *byte ^= 0x5a;
                harmed = true;
            }
            std::fs::write(&file, bytes)?;
        }
    }
    assert!(harmed);
    let store = open(&path)?;
    let snapshot = store.begin_read()?;
    let books = snapshot.table::<Book>()?;
    let years =
        books.by(Book::YEAR).all()?.map(|book| book.map(|book| book.year)).collect::<Result<Vec<_>, _>>()?;
    assert!(years.len() == 18_000 && years.is_sorted());
    let stats = store.stats()?;
    assert!(stats.ordered.quarantined > 0, "{stats}");
    assert!(stats.to_string().contains("quarantined"), "{stats}");
    store.catch_up_indexes()?;
    assert!(store.verify(|_| ())?.is_valid());
    assert!(path.join("ordered/sled.aside").exists());
    Ok(())
}
