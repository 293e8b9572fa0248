//! The orders example: its output, and a check that rejected orders change nothing.

use pongo::prelude::*;

use crate::data::{Customer, Invoice, Line, Order, Product};
use crate::shop::{Error, Placed};
use crate::{shop, story};

const TOLD: &str = "\
Customers
  1  Ada <ada@example.org>
  2  Bob <bob@example.org>
  3  Ada again is refused: table customers takes one row for each `mail`: expected a new value, found mail = \"ada@example.org\" in the row with key id = 1 (row 0); change or delete that row first, or give this one another value

Orders
  1  of customer 1, 47.90
  2  of customer 2, 21.60
     without 1 pot: 0 left
  3  of customer 1, 18.00
  -  of customer 2: nothing could be had
     without 1 jug: no such product
     without 9 cup: 5 left
  4  of customer 1, 7.20

Customer 1 until 21 March
  1  2026-03-02T00:00:00Z  47.90  2 tea, 1 cup, 1 pot
  3  2026-03-16T00:00:00Z  18.00  4 cup

After order 3 was cancelled
  1  2026-03-02T00:00:00Z  47.90  2 tea, 1 cup, 1 pot

As seen from before
  1  2026-03-02T00:00:00Z  47.90  2 tea, 1 cup, 1 pot
  3  2026-03-16T00:00:00Z  18.00  4 cup

3 invoices, of them Ada's
  ada@example.org/2026-03-02/1  47.90  2 tea, 1 cup, 1 pot
  ada@example.org/2026-03-30/4   7.20  1 tea

On the shelf
    9 cup at 4.50
    0 pot at 31.90
   34 tea at 7.92

In all
   55.10  Ada
   21.60  Bob
";

fn tell(store: &Store) -> Result<String, Error> {
    let mut told = Vec::new();
    story::tell(store, &mut told)?;
    Ok(String::from_utf8(told)?)
}

#[test]
fn the_story_is_always_the_same() -> Result<(), Error> {
    assert_eq!(tell(&Store::in_memory()?)?, TOLD);
    let folder = tempfile::tempdir()?;
    // SAFETY: nothing else writes to the files of this folder.
    let store = unsafe { Store::open(folder.path().join("shop.pongo")) }?;
    assert_eq!(tell(&store)?, TOLD);
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    Ok(())
}

#[test]
fn refused_order_keeps_stock_unchanged() -> Result<(), Error> {
    let store = Store::in_memory()?;
    shop::stock_up(&store, &[("cup", 450, 3), ("pot", 2900, 1)])?;
    let shelf = || -> Result<Vec<u32>, Error> {
        let snapshot = store.begin_read()?;
        let products = snapshot.table::<Product>()?;
        Ok(products.range(..)?.map(|product| Ok(product?.stock)).collect::<Result<_, pongo::ReadError>>()?)
    };
    // There are enough cups but not enough pots: neither is taken.
    let placed = shop::place(&store, 1, Timestamp::EPOCH, &[(&["cup", "pot"], 2)])?;
    assert_eq!(placed, Placed { id: None, cents: 0, refused: vec!["2 pot: 1 left".to_owned()] });
    assert_eq!(shelf()?, [3, 1]);
    assert_eq!(store.begin_read()?.table::<Line>()?.len(), 0);

    let placed =
        shop::place(&store, 1, Timestamp::EPOCH, &[(&["cup", "pot"], 2), (&["pot"], 1), (&["cup"], 3)])?;
    assert_eq!((placed.id, placed.cents, placed.refused.len()), (Some(1), 2900 + 3 * 450, 1));
    assert_eq!(shelf()?, [0, 0]);
    let snapshot = store.begin_read()?;
    let lines =
        shop::lines_of(&snapshot, 1)?.map(|line| Ok(line?.line)).collect::<Result<Vec<_>, Error>>()?;
    assert_eq!(lines, [0, 1]);

    assert!(shop::cancel(&store, 1)? && !shop::cancel(&store, 1)?);
    assert_eq!(shelf()?, [3, 1]);
    assert!(store.begin_read()?.table::<Order>()?.is_empty());
    assert!(store.begin_read()?.table::<Line>()?.is_empty());

    // A number is reused only if it was the last.
    for id in 1..=3 {
        assert_eq!(shop::place(&store, 1, Timestamp::EPOCH, &[(&["cup"], 1)])?.id, Some(id));
    }
    assert!(shop::cancel(&store, 2)?);
    assert_eq!(shop::place(&store, 1, Timestamp::EPOCH, &[(&["cup"], 1)])?.id, Some(4));
    Ok(())
}

#[test]
fn an_order_is_billed_once() -> Result<(), Error> {
    let store = Store::in_memory()?;
    tell(&store)?;
    assert_eq!(shop::bill(&store)?, 0);
    assert_eq!(shop::place(&store, 2, Timestamp::EPOCH, &[(&["cup"], 1)])?.id, Some(5));
    assert_eq!(shop::bill(&store)?, 1);
    let snapshot = store.begin_read()?;
    let invoices = snapshot.external::<Invoice>()?;
    let invoice = invoices.get("bob@example.org/1970-01-01/5")?.ok_or("it was written")?;
    assert_eq!((invoice.order, invoice.customer, invoice.cents), (5, 2, 450));
    assert_eq!(invoice.text.as_str(&snapshot)?, "1 cup");
    assert_eq!((invoices.len(), invoices.prefix("bob@example.org/")?.count()), (4, 2));
    Ok(())
}

#[test]
fn deleted_customer_frees_its_address() -> Result<(), Error> {
    let store = Store::in_memory()?;
    assert_eq!(shop::enter(&store, 1, "Ada", "ada@example.org")?, None);
    let refusal = shop::enter(&store, 2, "Eve", "ada@example.org")?.ok_or("it is taken")?;
    assert!(refusal.contains("mail = \"ada@example.org\" in the row with key id = 1"), "{refusal}");
    let refusal = shop::enter(&store, 1, "Eve", "eve@example.org")?.ok_or("the number is taken")?;
    assert!(refusal.contains("id = 1"), "{refusal}");
    let tx = store.begin_write()?;
    assert!(tx.table::<Customer>()?.delete(1)?);
    tx.commit()?;
    assert_eq!(shop::enter(&store, 2, "Eve", "ada@example.org")?, None);
    Ok(())
}
