//! External keys: values under keys of any bytes that are not fields of the record.
//!
//! `cargo run --example external_keys`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "pages", key = "external")]
struct Page {
    body: Text,
    visits: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;

    let tx = store.begin_write()?;
    let mut pages = tx.external::<Page>()?;
    for (url, body) in
        [("/about", "About us"), ("/blog/sea", "The sea"), ("/blog/sand", "Sand"), ("/", "Home")]
    {
        pages.put(url, &Page { body: tx.text(body)?, visits: 0 })?;
    }
    pages.update("/about", |page| page.visits += 1)?;
    drop(pages);
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let pages = snapshot.external::<Page>()?;
    let about = pages.get("/about")?.ok_or("the page was committed")?;
    assert_eq!((about.body.as_str(&snapshot)?, about.visits), ("About us", 1));

    // Ranges return keys and values, in the order of the keys' bytes.
    for item in pages.prefix("/blog/")? {
        let (url, page) = item?;
        println!("{}: {}", String::from_utf8_lossy(url), page.body.as_str(&snapshot)?);
    }
    assert_eq!(pages.count("/a".."/c")?, 3);
    Ok(())
}
