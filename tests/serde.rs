//! Serialization of records with `serde`, to JSON and to a binary format.

#![allow(missing_docs)]

use pongo::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[pongo::record]
#[pongo(table = "books")]
struct Book {
    #[pongo(key)]
    isbn: FixedStr<16>,
    title: Text,
    cover: Blob,
    id: Uuid,
    printed: Timestamp,
    pages: Maybe<u64>,
    weight: Maybe<u64>,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn put_one(store: &Store) -> Outcome {
    let tx = store.begin_write()?;
    let book = Book {
        isbn: "9780141186160".parse()?,
        title: tx.text("The Sea, the Sea")?,
        cover: tx.blob(&[1, 2, 255])?,
        id: "67e55044-10b1-426f-9247-bb680e5fe0c8".parse()?,
        printed: "1978-08-25T09:30:00.5Z".parse()?,
        pages: Maybe::some(502),
        weight: Maybe::none(),
    };
    tx.table::<Book>()?.put(&book)?;
    tx.commit()?;
    Ok(())
}

const JSON: &str = concat!(
    r#"{"isbn":"9780141186160","title":"The Sea, the Sea","cover":[1,2,255],"#,
    r#""id":"67e55044-10b1-426f-9247-bb680e5fe0c8","printed":"1978-08-25T09:30:00.500000Z","#,
    r#""pages":502,"weight":null}"#
);

#[test]
fn record_becomes_json_and_back() -> Outcome {
    let (store, other) = (Store::in_memory()?, Store::in_memory()?);
    put_one(&store)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Book>()?;
    let book = table.first()?.ok_or("one book was put")?;
    let json = pongo::serde::reading(&snapshot, || serde_json::to_string(book))?;
    assert_eq!(json, JSON);

    let tx = other.begin_write()?;
    let copy: Book = pongo::serde::writing(&tx, || serde_json::from_str(&json))?;
    tx.table::<Book>()?.put(&copy)?;
    // The transaction's own texts can be serialized before the commit.
    assert_eq!(pongo::serde::reading(&tx, || serde_json::to_string(&copy))?, JSON);
    tx.commit()?;
    let snapshot = other.begin_read()?;
    let table = snapshot.table::<Book>()?;
    let copy = table.first()?.ok_or("the copy was put")?;
    assert_eq!(copy.title.as_str(&snapshot)?, "The Sea, the Sea");
    assert_eq!(copy.cover.as_bytes(&snapshot)?, [1, 2, 255]);
    Ok(())
}

#[test]
fn record_becomes_bytes_and_back() -> Outcome {
    let store = Store::in_memory()?;
    put_one(&store)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Book>()?;
    let book = table.first()?.ok_or("one book was put")?;
    let bytes = pongo::serde::reading(&snapshot, || postcard::to_stdvec(book))?;
    let tx = store.begin_write()?;
    let copy: Book = pongo::serde::writing(&tx, || postcard::from_bytes(&bytes))?;
    assert_eq!((copy.isbn, copy.id, copy.printed), (book.isbn, book.id, book.printed));
    assert_eq!((copy.pages.to_option(), copy.weight.to_option()), (Some(502), None));
    assert_eq!(copy.title.as_str(&tx)?, "The Sea, the Sea");
    assert_eq!(copy.cover.as_bytes(&tx)?, [1, 2, 255]);
    Ok(())
}

#[test]
fn texts_outside_of_a_scope_are_errors() -> Outcome {
    let store = Store::in_memory()?;
    put_one(&store)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Book>()?;
    let book = table.first()?.ok_or("one book was put")?;
    // A scope that panicked does not stay open.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pongo::serde::reading(&snapshot, || panic!("planned"));
    }));
    assert!(panicked.is_err());
    let error = serde_json::to_string(book).unwrap_err().to_string();
    assert!(error.contains("pongo::serde::reading(&snapshot"), "{error}");
    let error = serde_json::from_str::<Book>(JSON).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("pongo::serde::writing(&transaction"), "{error}");

    // Another store's snapshot has no such contents, and says so.
    let other = Store::in_memory()?;
    let error =
        pongo::serde::reading(&other.begin_read()?, || serde_json::to_string(book)).unwrap_err().to_string();
    assert!(error.contains("heap address"), "{error}");

    // Empty contents need no heap.
    let empty = Book { title: Text::EMPTY, cover: Blob::EMPTY, ..*book };
    let json = serde_json::to_string(&empty)?;
    assert!(serde_json::from_str::<Book>(&json)?.title.is_empty());
    Ok(())
}

#[test]
fn scopes_nest() -> Outcome {
    let (store, other) = (Store::in_memory()?, Store::in_memory()?);
    put_one(&store)?;
    put_one(&other)?;
    let (outer, inner) = (store.begin_read()?, other.begin_read()?);
    let table = outer.table::<Book>()?;
    let book = table.first()?.ok_or("one book was put")?;
    pongo::serde::reading(&outer, || -> Outcome {
        let before = serde_json::to_string(book)?;
        let table = inner.table::<Book>()?;
        let nested = table.first()?.ok_or("one book was put")?;
        assert_eq!(pongo::serde::reading(&inner, || serde_json::to_string(nested))?, before);
        assert_eq!(serde_json::to_string(book)?, before);
        Ok(())
    })
}

#[test]
fn values_that_do_not_fit_are_errors() {
    for (json, expected) in [
        (JSON.replace("9780141186160", "97801411861601234"), "does not fit into a FixedStr<16>"),
        (JSON.replace("1978-08-25T", "1978-13-25T"), "expected a month from 01 to 12"),
        (JSON.replace("67e55044-", "67e5504-"), "UUID"),
        (JSON.replace("[1,2,255]", "[1,2,256]"), "256"),
        (JSON.replace("502", "-1"), "-1"),
    ] {
        let store = Store::in_memory().unwrap();
        let tx = store.begin_write().unwrap();
        let error =
            pongo::serde::writing(&tx, || serde_json::from_str::<Book>(&json).map(|_| ())).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
