//! A small shop: unique e-mail addresses, orders whose lines can fail one by one, ranges by customer and time, invoices
//! under names.
//!
//! ```text
//! cargo run --release --example orders
//! ```
//!
//! The store is in memory; on the disk it would be the same. In reading order: `data` (the structs), `shop` (what is done
//! with them, a transaction each), `story` (a month of it).

mod data;
mod shop;
mod story;

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
