//! Operations of the shop, each in one transaction.

use pongo::prelude::*;
use pongo::{Range, ReadError, WriteError};

use crate::data::{Customer, Invoice, Line, Order, Product};

/// Error type of the example's functions.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Adds products to the stock: name, price in cents, pieces.
///
/// # Errors
/// Returns an error if the store cannot write them.
pub(crate) fn stock_up(store: &Store, products: &[(&str, u32, u32)]) -> Result<(), Error> {
    let tx = store.begin_write()?;
    for &(sku, cents, stock) in products {
        tx.table::<Product>()?.put(&Product { sku: sku.parse()?, cents, stock })?;
    }
    tx.commit()?;
    Ok(())
}

/// Inserts a customer. Returns the reason as text if another customer has this e-mail address or
/// number.
///
/// # Errors
/// Returns an error if the store cannot write the row for another reason.
pub(crate) fn enter(store: &Store, id: u32, name: &str, mail: &str) -> Result<Option<String>, Error> {
    let tx = store.begin_write()?;
    let name = tx.text(name)?;
    let entered = tx.table::<Customer>()?.insert(&Customer { name, id, mail: mail.parse()? });
    match entered {
        Ok(()) => {
            tx.commit()?;
            Ok(None)
        }
        Err(refusal @ (WriteError::UniqueViolation { .. } | WriteError::KeyExists { .. })) => {
            Ok(Some(refusal.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Products that are ordered all together or not at all, and the number of pieces of each.
pub(crate) type Wanted<'a> = (&'a [&'a str], u16);

/// Result of an order.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// Number of the order; `None` if no product was available.
    pub(crate) id: Option<u32>,
    /// Price of all its lines.
    pub(crate) cents: u64,
    /// The rejected wishes, with reasons.
    pub(crate) refused: Vec<String>,
}

/// Places an order. Unavailable products are left out, and the rest is ordered: a savepoint is set
/// before each wish.
///
/// # Errors
/// Returns an error if the store cannot write the order; nothing is changed then.
pub(crate) fn place(
    store: &Store,
    customer: u32,
    placed: Timestamp,
    wishes: &[Wanted<'_>],
) -> Result<Placed, Error> {
    let mut tx = store.begin_write()?;
    let id = tx.table::<Order>()?.last()?.map_or(1, |order| order.id + 1);
    let (mut lines, mut cents, mut refused) = (0, 0, Vec::new());
    for wish in wishes {
        let savepoint = tx.savepoint()?;
        match take(&tx, id, lines, wish)? {
            Taken::All { price } => {
                lines += wish.0.len() as u16;
                cents += price;
            }
            Taken::Refused(why) => {
                tx.rollback_to(&savepoint)?;
                refused.push(why);
            }
        }
        tx.release(savepoint)?;
    }
    if lines == 0 {
        tx.abort();
        return Ok(Placed { id: None, cents, refused });
    }
    tx.table::<Order>()?.insert(&Order { placed, cents, id, customer })?;
    tx.commit()?;
    Ok(Placed { id: Some(id), cents, refused })
}

enum Taken {
    All { price: u64 },
    Refused(String),
}

/// Takes the products of one wish from the stock, one after the other. If one is refused, those
/// before it remain taken; the caller rolls back.
fn take(tx: &WriteTransaction, order: u32, first: u16, wish: &Wanted<'_>) -> Result<Taken, Error> {
    let &(products, count) = wish;
    let mut price = 0;
    for (line, name) in (first..).zip(products) {
        let sku = name.parse()?;
        let taken = tx.table::<Product>()?.update(sku, |product| {
            let left = product.stock.checked_sub(count.into());
            left.map(|left| product.stock = left).ok_or(product.stock).map(|()| product.cents)
        })?;
        let cents = match taken {
            Some(Ok(cents)) => cents,
            Some(Err(left)) => return Ok(Taken::Refused(format!("{count} {name}: {left} left"))),
            None => return Ok(Taken::Refused(format!("{count} {name}: no such product"))),
        };
        tx.table::<Line>()?.insert(&Line { order, line, count, cents, sku })?;
        price += u64::from(cents) * u64::from(count);
    }
    Ok(Taken::All { price })
}

/// Changes the prices of the products whose names are within `skus` to `percent` percent. Returns
/// the number of products.
///
/// # Errors
/// Returns an error if the store cannot do it; nothing is changed then.
pub(crate) fn reprice(store: &Store, skus: std::ops::Range<&str>, percent: u32) -> Result<u64, Error> {
    let tx = store.begin_write()?;
    let (from, to) = (FixedStr::new(skus.start)?, FixedStr::new(skus.end)?);
    let changed = tx.table::<Product>()?.modify(from..to, |product| {
        product.cents = product.cents * percent / 100;
    })?;
    tx.commit()?;
    Ok(changed)
}

/// Returns the orders of a customer within a range of times, oldest first.
///
/// # Errors
/// Returns an error if rows are corrupt.
pub(crate) fn orders_of(
    snapshot: &Snapshot,
    customer: u32,
    time: std::ops::Range<Timestamp>,
) -> Result<Range<'_, Order>, ReadError> {
    let bounds = (customer, time.start)..(customer, time.end);
    snapshot.table::<Order>()?.by((Order::CUSTOMER, Order::PLACED)).range(bounds)
}

/// Returns the lines of an order.
///
/// # Errors
/// Returns an error if rows are corrupt.
pub(crate) fn lines_of(snapshot: &Snapshot, order: u32) -> Result<Range<'_, Line>, ReadError> {
    snapshot.table::<Line>()?.prefix((order,))
}

/// Writes an invoice for each order without one. Returns the number of invoices written.
///
/// # Errors
/// Returns an error if the store cannot do it; nothing is changed then.
pub(crate) fn bill(store: &Store) -> Result<u64, Error> {
    let tx = store.begin_write()?;
    let mut written = 0;
    {
        // Four tables of one transaction: only `invoices` is changed, the others are read in their
        // current state.
        let (customers, orders) = (tx.table::<Customer>()?, tx.table::<Order>()?);
        let (order_lines, mut invoices) = (tx.table::<Line>()?, tx.external::<Invoice>()?);
        for order in orders.range(..)? {
            let &Order { placed, cents, id, customer } = order?;
            let mail = customers.get(customer)?.ok_or("an order of nobody")?.mail;
            let name = format!("{mail}/{}/{id}", &placed.to_string()[..10]);
            if invoices.contains(&name)? {
                continue;
            }
            let lines = order_lines
                .prefix((id,))?
                .map(|line| line.map(|line| format!("{} {}", line.count, line.sku)));
            let text = tx.text(&lines.collect::<Result<Vec<_>, _>>()?.join(", "))?;
            invoices.insert(&name, &Invoice { text, cents, order: id, customer })?;
            written += 1;
        }
    }
    tx.commit()?;
    Ok(written)
}

/// Cancels an order: returns its pieces to the stock and deletes its lines and the order itself.
/// Returns `false` if there is no such order.
///
/// # Errors
/// Returns an error if the store cannot do it; nothing is changed then.
pub(crate) fn cancel(store: &Store, order: u32) -> Result<bool, Error> {
    let tx = store.begin_write()?;
    // The transaction's own reads include the previous commit, even while that still waits for its
    // sync.
    let mut products = tx.table::<Product>()?;
    let mut lines = tx.table::<Line>()?;
    for line in lines.extract_if((order, 0)..=(order, u16::MAX), |_| true)? {
        let line = line?;
        products.update(line.sku, |product| product.stock += u32::from(line.count))?;
    }
    drop((products, lines));
    let was_there = tx.table::<Order>()?.delete(order)?;
    tx.commit()?;
    Ok(was_there)
}
