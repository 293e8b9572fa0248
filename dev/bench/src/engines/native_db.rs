//! native_db: typed structs on redb 2, the store whose API is closest to PongoDB's.
//!
//! - The struct has the fields of [`Trade`], with its key as a `u128` primary key. `native_model`'s
//!   default, bincode 1.3, encodes it, and every read decodes the whole struct; native_db has no
//!   other way to read.
//! - Its only durability is the sync of redb's default, so it has no relaxed figure.
//! - The load is one write transaction; lookups and the scan run in one read transaction.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use native_db::{Builder, Database, Models, ToKey, native_db};
use native_model::{Model, native_model};
use serde::{Deserialize, Serialize};

use crate::engine::{Durability, Engine, Entry, Found};
use crate::trade::{Key, Trade};

/// native_db; see the module documentation.
pub(crate) const ENTRY: Entry = Entry {
    name: "native_db",
    title: "native_db 0.8",
    open,
    open_indexed: None,
    stores: true,
    relaxed: false,
    journal_bytes: None,
    cut_power: None,
};

#[derive(Serialize, Deserialize, Debug)]
#[native_model(id = 1, version = 1)]
#[native_db]
struct NativeTrade {
    #[primary_key]
    id: u128,
    price: f64,
    qty: f64,
    ts: i64,
    account: u64,
    venue: u32,
    side: u32,
    number: u64,
}

impl From<&Trade> for NativeTrade {
    fn from(trade: &Trade) -> Self {
        let Trade { id, price, qty, ts, account, venue, side, number } = *trade;
        NativeTrade { id: u128::from_le_bytes(id), price, qty, ts, account, venue, side, number }
    }
}

static MODELS: LazyLock<Models> = LazyLock::new(|| {
    let mut models = Models::new();
    models.define::<NativeTrade>().expect("one model");
    models
});

struct Native {
    database: Database<'static>,
}

fn open(folder: &Path) -> Result<Box<dyn Engine>> {
    let path = folder.join("trades.native_db");
    let builder = Builder::new();
    let database =
        if path.exists() { builder.open(&MODELS, &path)? } else { builder.create(&MODELS, &path)? };
    Ok(Box::new(Native { database }))
}

impl Native {
    fn put(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        let tx = self.database.rw_transaction()?;
        for row in rows {
            tx.insert(NativeTrade::from(&row))?;
        }
        tx.commit()?;
        Ok(())
    }
}

impl Engine for Native {
    fn load(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()> {
        self.put(rows)
    }

    fn get(&self, keys: &[Key]) -> Result<Found> {
        let tx = self.database.r_transaction()?;
        let mut found = Found::default();
        for key in keys {
            if let Some(trade) = tx.get().primary::<NativeTrade>(u128::from_le_bytes(*key))? {
                found.add(trade.price * trade.qty);
            }
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Found> {
        let tx = self.database.r_transaction()?;
        let mut found = Found::default();
        for trade in tx.scan().primary::<NativeTrade>()?.all()? {
            let trade = trade?;
            found.add(trade.price * trade.qty);
        }
        Ok(found)
    }

    fn commit(&self, rows: &[Trade], _: Durability) -> Result<()> {
        self.put(&mut rows.iter().copied())
    }

    fn snapshots(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(self.database.r_transaction()?);
        }
        Ok(())
    }
}
