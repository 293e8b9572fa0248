//! Unique fields: a second row with the same value is rejected, and look-ups by the value.
//!
//! `cargo run --example unique_fields`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "users")]
struct User {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    mail: FixedStr<32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;

    let tx = store.begin_write()?;
    let mut users = tx.table::<User>()?;
    users.insert(&User { id: 1, mail: "ada@example.org".parse()? })?;

    // The error names the field, the value and the existing row; the transaction continues.
    let error = users.insert(&User { id: 2, mail: "ada@example.org".parse()? }).unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("in the row with key id = 1"), "{error}");

    users.insert(&User { id: 2, mail: "bob@example.org".parse()? })?;
    drop(users);
    tx.commit()?;

    // A unique field is also an index.
    let snapshot = store.begin_read()?;
    let bob = snapshot.table::<User>()?.by(User::MAIL).eq("bob@example.org")?.next().transpose()?;
    assert_eq!(bob.map(|user| user.id), Some(2));
    Ok(())
}
