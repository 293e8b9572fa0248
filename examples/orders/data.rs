//! Tables of the shop.

use pongo::prelude::*;

/// A customer.
#[pongo::record]
#[pongo(table = "customers")]
pub(crate) struct Customer {
    pub(crate) name: Text,
    #[pongo(key)]
    pub(crate) id: u32,
    /// E-mail address; unique.
    #[pongo(unique)]
    pub(crate) mail: FixedStr<28>,
}

/// A product.
#[pongo::record]
#[pongo(table = "products")]
pub(crate) struct Product {
    #[pongo(key)]
    pub(crate) sku: FixedStr<8>,
    pub(crate) cents: u32,
    /// Number of pieces in stock.
    pub(crate) stock: u32,
}

/// An order, whose lines are [`Line`]s. The index stores the orders of a customer next to each
/// other, sorted by time.
#[pongo::record]
#[pongo(table = "orders", index(customer, placed))]
pub(crate) struct Order {
    pub(crate) placed: Timestamp,
    pub(crate) cents: u64,
    #[pongo(key)]
    pub(crate) id: u32,
    pub(crate) customer: u32,
}

/// An invoice. Its key is its name in the accounts, `ada@example.org/2026-03-02/1`: of any length,
/// and not a field.
#[pongo::record]
#[pongo(table = "invoices", key = "external")]
pub(crate) struct Invoice {
    pub(crate) text: Text,
    pub(crate) cents: u64,
    pub(crate) order: u32,
    pub(crate) customer: u32,
}

/// One product of an order. The key starts with the number of the order, so the lines of an order
/// are a prefix range.
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
