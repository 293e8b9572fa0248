//! The shop's tables.

use pongo::prelude::*;

/// Who orders.
#[pongo::record]
#[pongo(table = "customers")]
pub(crate) struct Customer {
    pub(crate) name: Text,
    #[pongo(key)]
    pub(crate) id: u32,
    /// No two customers have the same.
    #[pongo(unique)]
    pub(crate) mail: FixedStr<28>,
}

/// What can be ordered.
#[pongo::record]
#[pongo(table = "products")]
pub(crate) struct Product {
    #[pongo(key)]
    pub(crate) sku: FixedStr<8>,
    pub(crate) cents: u32,
    /// Pieces that are left.
    pub(crate) stock: u32,
}

/// An order, whose lines are [`Line`]s. The index has a customer's orders side by side, in the order of their time.
#[pongo::record]
#[pongo(table = "orders", index(customer, placed))]
pub(crate) struct Order {
    pub(crate) placed: Timestamp,
    pub(crate) cents: u64,
    #[pongo(key)]
    pub(crate) id: u32,
    pub(crate) customer: u32,
}

/// A bill. Its key is the name under which the books have it, `ada@example.org/2026-03-02/1`: of any length, and no field.
#[pongo::record]
#[pongo(table = "invoices", key = "external")]
pub(crate) struct Invoice {
    pub(crate) text: Text,
    pub(crate) cents: u64,
    pub(crate) order: u32,
    pub(crate) customer: u32,
}

/// One product of an order. All lines of an order begin with its number: they are a prefix of the key.
#[pongo::record]
#[pongo(table = "lines")]
pub(crate) struct Line {
    #[pongo(key)]
    pub(crate) order: u32,
    #[pongo(key)]
    pub(crate) line: u16,
    pub(crate) count: u16,
    pub(crate) cents: u32,
    pub(crate) sku: FixedStr<8>,
}
