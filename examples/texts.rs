//! Strings: `FixedStr<N>` in the row, `Text` and `Blob` of any length in the store's heap.
//!
//! `cargo run --example texts`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "books")]
struct Book {
    title: Text, // any length: 16 bytes in the row, the content in the heap
    cover: Blob, // the same for bytes
    #[pongo(key)]
    isbn: FixedStr<16>, // at most 16 bytes, in the row; can be a key
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;

    let tx = store.begin_write()?;
    let mut books = tx.table::<Book>()?;
    for (isbn, title) in [("9780141186160", "The Sea, the Sea"), ("9780141439600", "A Tale of Two Cities")] {
        // The content is written once; the row stores its address, length and hash.
        let book =
            Book { title: tx.text(title)?, cover: tx.blob(&[0x89, b'P', b'N', b'G'])?, isbn: isbn.parse()? };
        books.put(&book)?;
    }
    drop(books);
    tx.commit()?;

    let snapshot = store.begin_read()?;
    for book in snapshot.table::<Book>()?.range(..)? {
        let book = book?;
        let title: &str = book.title.as_str(&snapshot)?; // borrowed from the mapped heap
        println!("{} {title} ({} bytes of cover)", book.isbn, book.cover.as_bytes(&snapshot)?.len());
    }

    // A text that is too long for its field is an error, never cut.
    let too_long = "978-0-14-118616-0".parse::<FixedStr<16>>().unwrap_err();
    println!("17 bytes for a FixedStr<16>: {too_long}");
    Ok(())
}
