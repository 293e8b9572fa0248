//! Threads and processes whose transactions read what earlier ones committed: exact counters,
//! claims and stocks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use pongo::prelude::*;
use pongo_test_support::{Random, child};

use crate::Outcome;
use crate::model::{Item, Map, check, is_taken, item};

/// Threads whose transactions follow each other while earlier commits still wait for their syncs.
#[test]
fn threads_read_the_commit_before() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    let store = unsafe { Store::open(folder.path().join("items.pongo"))? };
    let model = Mutex::new(Map::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let (store, model) = (&store, &model);
                scope.spawn(move || transactions(store, model, thread).map_err(|error| error.to_string()))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no thread panics"), Ok(()));
        }
    });
    Ok(())
}

fn transactions(store: &Store, model: &Mutex<Map>, thread: u64) -> Outcome {
    let mut rng = Random::seeded(&format!("threads_read_the_commit_before {thread}"));
    for _ in 0..60 {
        let tx = store.begin_write()?;
        // Only one thread has a transaction at a time, so only that thread holds the model.
        let mut map = model.lock().map_err(|_| "another thread failed")?;
        check(&tx.table::<Item>()?, &map, 100, &mut rng)?;
        let mut after = map.clone();
        let mut table = tx.table::<Item>()?;
        for _ in 0..rng.below(8) {
            let row = item(rng.below(100), rng.below(200), rng.below(40) as u32, rng.next() as u32);
            if is_taken(&after, row.id, row.code) {
                assert_eq!(table.delete(row.id)?, after.remove(&row.id).is_some());
            } else {
                assert_eq!(table.put(&row)?, after.insert(row.id, row).is_some());
            }
        }
        check(&table, &after, 100, &mut rng)?;
        drop(table);
        *map = after;
        drop(map);
        let seq = tx.commit()?.seq;
        assert!(store.begin_read()?.seq() >= seq, "a snapshot started after the return sees it");
    }
    Ok(())
}

#[pongo::record]
#[pongo(table = "stock")]
struct Stock {
    #[pongo(key)]
    sku: u64,
    left: u64,
}

#[pongo::record]
#[pongo(table = "orders")]
#[pongo(index(state, number))]
struct Order {
    #[pongo(key)]
    number: u64,
    state: u32,
    owner: u32,
}

const OPEN: u32 = 0;
const CLAIMED: u32 = 1;
const ORDERS: u64 = 60;
const EACH: u64 = 40;

/// Cancels orders and returns their pieces to stock, claims jobs and takes numbers. Each
/// transaction decides by its own reads.
fn work(store: &Store, who: u32) -> Outcome {
    for round in 0..ORDERS {
        // All workers cancel the same orders: each order exists once.
        let tx = store.begin_write()?;
        let was_there = tx.table::<Order>()?.delete(round)?;
        if was_there {
            let mut stock = tx.table::<Stock>()?;
            stock.update(1, |stock| stock.left += 1)?.ok_or("the stock exists")?;
        }
        tx.commit()?;
    }
    for _ in 0..EACH {
        let tx = store.begin_write_with(if who.is_multiple_of(2) {
            Durability::Sync
        } else {
            Durability::Relaxed
        })?;
        {
            let mut orders = tx.table::<Order>()?;
            // The first unclaimed order, by the index.
            let open = orders.by((Order::STATE, Order::NUMBER))?.range((OPEN, ORDERS)..(CLAIMED, 0))?.next();
            let open = open.transpose()?.map(|order| order.number);
            if let Some(number) = open {
                orders.update(number, |order| (order.state, order.owner) = (CLAIMED, who))?;
            }
            // The next free number.
            let next = orders.last()?.map_or(1, |order| order.number + 1);
            orders.insert(&Order { number: next, state: CLAIMED, owner: 1000 + who })?;
        }
        tx.commit()?;
    }
    Ok(())
}

fn prepare(store: &Store, workers: u64) -> Outcome {
    let tx = store.begin_write()?;
    tx.table::<Stock>()?.put(&Stock { sku: 1, left: 0 })?;
    let orders = (0..ORDERS + workers * EACH).map(|number| Order { number, state: OPEN, owner: 0 });
    tx.table::<Order>()?.extend(orders)?;
    tx.commit()?;
    Ok(())
}

/// Checks that every order was cancelled once, every job claimed once, and every number taken once.
fn check_work(store: &Store, workers: u64) -> Outcome {
    let snapshot = store.begin_read()?;
    assert_eq!(snapshot.table::<Stock>()?.get(1)?.map(|stock| stock.left), Some(ORDERS));
    let orders = snapshot.table::<Order>()?;
    let all = orders.rows().collect::<Result<Vec<_>, _>>()?;
    assert!(all.iter().all(|order| order.state == CLAIMED && order.number >= ORDERS));
    for who in 0..workers as u32 {
        let claimed = all.iter().filter(|order| order.owner == who).count() as u64;
        let numbered = all.iter().filter(|order| order.owner == 1000 + who).count() as u64;
        assert_eq!((claimed, numbered), (EACH, EACH), "worker {who}");
    }
    let numbers: BTreeSet<u64> = all.iter().map(|order| order.number).collect();
    assert_eq!(numbers.len(), all.len());
    assert_eq!(numbers.last(), Some(&(ORDERS + 2 * workers * EACH - 1)));
    Ok(())
}

#[test]
fn threads_cancel_claim_and_number() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    let store = unsafe { Store::open(folder.path().join("shop.pongo"))? };
    prepare(&store, 2)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|who| {
                let store = &store;
                scope.spawn(move || work(store, who).map_err(|error| error.to_string()))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no thread panics"), Ok(()));
        }
    });
    check_work(&store, 2)
}

#[test]
fn processes_cancel_claim_and_number() -> Outcome {
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    let open = |path: &Path| unsafe { Store::open(path) };
    if let Some(role) = child::role() {
        let (who, path) = role.split_once(' ').ok_or("who, and where")?;
        return work(&open(Path::new(path))?, who.parse()?);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop.pongo");
    let store = open(&path)?;
    prepare(&store, 4)?;
    let start = |who: u32| {
        let role = format!("{who} {}", path.display());
        child::command("shared::processes_cancel_claim_and_number", &role).spawn()
    };
    let children = (0..4).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut child in children {
        assert!(child.wait()?.success());
    }
    check_work(&store, 4)
}
