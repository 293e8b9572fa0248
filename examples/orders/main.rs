//! A small shop: unique e-mail addresses, orders whose lines can fail one by one, ranges by
//! customer and time, named invoices.
//!
//! ```text
//! cargo run --release --example orders
//! ```
//!
//! The store is in memory; the code would be the same with a store on disk. The modules in reading
//! order: `data` (the structs), `shop` (operations on them, one transaction each), `story` (a month
//! of operations).

mod data;
mod shop;
mod story;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use pongo::prelude::*;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orders: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), shop::Error> {
    let store = Store::in_memory()?;
    story::tell(&store, &mut std::io::stdout().lock())
}
