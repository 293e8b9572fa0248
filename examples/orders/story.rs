//! A month of the shop. The output is always the same.

use std::io::Write;

use pongo::prelude::*;

use crate::data::{Customer, Invoice, Order, Product};
use crate::shop::{self, Error, Placed, Wanted};

/// 1 March 2026 in seconds since 1970.
const MARCH: i64 = 1_772_323_200;

/// Returns a time on a day of March.
fn day(day: i64) -> Timestamp {
    Timestamp::from_micros((MARCH + (day - 1) * 86_400) * 1_000_000)
}

fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Runs the shop in an empty store.
///
/// # Errors
/// Returns an error if the store cannot be written or read, or if `out` cannot be written.
pub(crate) fn tell(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    shop::stock_up(store, &[("cup", 450, 10), ("pot", 2900, 1), ("tea", 720, 40)])?;
    customers(store, out)?;
    orders(store, out)?;
    cancelling(store, out)?;
    invoices(store, out)?;
    // All names from p to t.
    shop::reprice(store, "p".."u", 110)?;
    what_is_left(store, out)
}

/// Demonstrates unique fields: the second customer with an address is rejected, with a reason.
fn customers(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    writeln!(out, "Customers")?;
    for (id, name, mail) in
        [(1, "Ada", "ada@example.org"), (2, "Bob", "bob@example.org"), (3, "Ada again", "ada@example.org")]
    {
        match shop::enter(store, id, name, mail)? {
            None => writeln!(out, "  {id}  {name} <{mail}>")?,
            Some(refusal) => writeln!(out, "  {id}  {name} is refused: {refusal}")?,
        }
    }
    Ok(())
}

/// Demonstrates savepoints: a wish that cannot be fulfilled is rolled back, including the pieces
/// taken from the stock, and the rest of the order is placed.
fn orders(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    writeln!(out, "\nOrders")?;
    let orders: [(u32, i64, &[Wanted<'_>]); 5] = [
        (1, 2, &[(&["tea"], 2), (&["cup", "pot"], 1)]),
        (2, 9, &[(&["cup", "pot"], 1), (&["tea"], 3)]),
        (1, 16, &[(&["cup"], 4)]),
        (2, 17, &[(&["jug"], 1), (&["cup"], 9)]),
        (1, 30, &[(&["tea"], 1)]),
    ];
    for (customer, date, wishes) in orders {
        let Placed { id, cents, refused } = shop::place(store, customer, day(date), wishes)?;
        match id {
            Some(id) => writeln!(out, "  {id}  of customer {customer}, {}", euros(cents))?,
            None => writeln!(out, "  -  of customer {customer}: nothing could be had")?,
        }
        refused.iter().try_for_each(|why| writeln!(out, "     without {why}"))?;
    }
    Ok(())
}

/// Demonstrates ranges: the orders of a customer in the first three weeks of March. Then one order
/// is cancelled; a snapshot that was opened before still contains it.
fn cancelling(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    let before = store.begin_read()?;
    writeln!(out, "\nCustomer 1 until 21 March")?;
    list(&before, 1, out)?;
    shop::cancel(store, 3)?;
    writeln!(out, "\nAfter order 3 was cancelled")?;
    list(&store.begin_read()?, 1, out)?;
    writeln!(out, "\nAs seen from before")?;
    list(&before, 1, out)
}

fn list(snapshot: &Snapshot, customer: u32, out: &mut impl Write) -> Result<(), Error> {
    for order in shop::orders_of(snapshot, customer, day(1)..day(22))? {
        let order = order?;
        let mut what = Vec::new();
        for line in shop::lines_of(snapshot, order.id)? {
            let line = line?;
            what.push(format!("{} {}", line.count, line.sku));
        }
        writeln!(out, "  {}  {}  {:>5}  {}", order.id, order.placed, euros(order.cents), what.join(", "))?;
    }
    Ok(())
}

/// Demonstrates external keys: invoices with names of any length, sorted by name, found by a prefix
/// of the name.
fn invoices(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    let written = shop::bill(store)?;
    writeln!(out, "\n{written} invoices, of them Ada's")?;
    let snapshot = store.begin_read()?;
    for invoice in snapshot.external::<Invoice>()?.prefix("ada@example.org/")? {
        let (name, invoice) = invoice?;
        let (name, text) = (String::from_utf8_lossy(name), invoice.text.as_str(&snapshot)?);
        writeln!(out, "  {name}  {:>5}  {text}", euros(invoice.cents))?;
    }
    Ok(())
}

fn what_is_left(store: &Store, out: &mut impl Write) -> Result<(), Error> {
    let snapshot = store.begin_read()?;
    writeln!(out, "\nOn the shelf")?;
    for product in snapshot.table::<Product>()?.range(..)? {
        let product = product?;
        writeln!(out, "  {:>3} {} at {}", product.stock, product.sku, euros(product.cents.into()))?;
    }
    writeln!(out, "\nIn all")?;
    for customer in snapshot.table::<Customer>()?.range(..)? {
        let customer = customer?;
        let orders = snapshot.table::<Order>()?.by(Order::CUSTOMER).eq(customer.id)?;
        let cents = orders.map(|order| Ok(order?.cents)).sum::<Result<u64, pongo::ReadError>>()?;
        writeln!(out, "  {:>6}  {}", euros(cents), customer.name.as_str(&snapshot)?)?;
    }
    Ok(())
}
