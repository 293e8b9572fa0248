//! Records as JSON and back, with the feature `serde`.
//!
//! `cargo run --example json --features serde`

use pongo::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[pongo::record]
#[pongo(table = "people")]
struct Person {
    name: Text,
    #[pongo(key)]
    id: Uuid,
    born: Timestamp,
    height: Maybe<f64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = r#"[
        {"name": "Ada", "id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
         "born": "1815-12-10T00:00:00Z", "height": null},
        {"name": "Grace", "id": "b4a9e7c2-0b6c-4d58-8f0a-1d9f0c1d2e3f",
         "born": "1906-12-09T00:00:00Z", "height": 1.68}
    ]"#;
    let store = Store::in_memory()?;

    // The contents of texts and blobs are written to the transaction's heap.
    let tx = store.begin_write()?;
    let people: Vec<Person> = pongo::serde::writing(&tx, || serde_json::from_str(json))?;
    tx.table::<Person>()?.extend(people)?;
    tx.commit()?;

    // They are read from the snapshot.
    let snapshot = store.begin_read()?;
    let people = snapshot.table::<Person>()?;
    for person in people.range(..)? {
        let person = person?;
        println!("{}", pongo::serde::reading(&snapshot, || serde_json::to_string(person))?);
    }
    assert_eq!(people.len(), 2);
    Ok(())
}
