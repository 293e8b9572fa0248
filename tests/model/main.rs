//! Random transactions on two tables, compared with a `BTreeMap` for each. After every commit each
//! live snapshot must show the maps as they were at its commit, by every read method.

mod oracle;

use std::collections::BTreeMap;
use std::path::Path;

use oracle::{Leg, Maps, Outcome, Stop, check_snapshot, check_transaction, name_of};
use pongo::prelude::*;
use pongo::{CommitError, WriteError};
use pongo_test_support::{Random, folder};

/// The number of keys is small enough that most operations meet an existing row.
const STOPS: u64 = 400;
const LEGS: u32 = 24;

/// A store under test, with the live snapshots and the maps that they must show.
struct Run {
    store: Store,
    maps: Maps,
    pinned: Vec<(Snapshot, Maps)>,
    rng: Random,
    /// Counts up; makes the versions of a row differ.
    clock: i64,
}

impl Run {
    fn new(store: Store, rng: Random) -> Self {
        Self { store, maps: Maps::default(), pinned: Vec::new(), rng, clock: 0 }
    }

    fn stop(&mut self, tx: &mut WriteTransaction) -> Outcome<Stop> {
        self.clock += 1;
        let id = self.rng.below(STOPS);
        Ok(Stop { id, visits: self.clock, name: tx.text(&name_of(self.clock))? })
    }

    fn leg(&mut self) -> Leg {
        self.clock += 1;
        let (from, to) = (self.rng.below(u64::from(LEGS)) as u32, self.rng.below(u64::from(LEGS)) as u16);
        Leg { from, to, closed: self.clock % 3 == 0, _pad: 0, minutes: self.clock }
    }

    /// Applies one random operation on the stops to the table and to the map.
    fn change_stops(&mut self, tx: &mut WriteTransaction, map: &mut BTreeMap<u64, i64>) -> Outcome {
        let stop = self.stop(tx)?;
        let (id, visits) = (stop.id, stop.visits);
        match self.rng.below(8) {
            0..3 => {
                let was_there = tx.table::<Stop>()?.put(&stop)?;
                assert_eq!(was_there, map.insert(id, visits).is_some());
            }
            3 => match tx.table::<Stop>()?.insert(&stop) {
                Ok(()) => assert_eq!(map.insert(id, visits), None),
                Err(WriteError::KeyExists { .. }) => assert!(map.contains_key(&id)),
                Err(other) => return Err(other.into()),
            },
            4 => {
                let before = tx.table::<Stop>()?.update(id, |row| {
                    row.name = stop.name;
                    std::mem::replace(&mut row.visits, visits)
                })?;
                assert_eq!(before, map.get_mut(&id).map(|known| std::mem::replace(known, visits)));
            }
            5 => {
                let error = tx.table::<Stop>()?.update(id, |row| row.id += STOPS);
                match error {
                    Err(WriteError::KeyChanged { .. }) => assert!(map.contains_key(&id)),
                    other => assert_eq!((other?, map.contains_key(&id)), (None, false)),
                }
            }
            _ => assert_eq!(tx.table::<Stop>()?.delete(id)?, map.remove(&id).is_some()),
        }
        Ok(())
    }

    fn change_legs(
        &mut self,
        tx: &mut WriteTransaction,
        map: &mut BTreeMap<(u16, u32), (bool, i64)>,
    ) -> Outcome {
        let leg = self.leg();
        let mut legs = tx.table::<Leg>()?;
        let key = (leg.to, leg.from);
        if self.rng.below(3) == 0 {
            assert_eq!(legs.delete(key)?, map.remove(&key).is_some());
        } else {
            assert_eq!(legs.put(&leg)?, map.insert(key, (leg.closed, leg.minutes)).is_some());
        }
        Ok(())
    }

    /// Loads random rows in bulk. Keys occur twice, and many exist already. Some loads are large
    /// and fill several chunks.
    fn load(&mut self, tx: &mut WriteTransaction, maps: &mut Maps) -> Outcome {
        let count = if self.rng.below(12) == 0 { 3000 } else { self.rng.below(200) };
        let stops: Vec<Stop> = (0..count).map(|_| self.stop(tx)).collect::<Outcome<_>>()?;
        maps.stops.extend(stops.iter().map(|stop| (stop.id, stop.visits)));
        assert_eq!(tx.table::<Stop>()?.extend(stops)?, count);
        let legs: Vec<Leg> = (0..count / 2).map(|_| self.leg()).collect();
        maps.legs.extend(legs.iter().map(|leg| ((leg.to, leg.from), (leg.closed, leg.minutes))));
        assert_eq!(tx.table::<Leg>()?.extend(legs)?, count / 2);
        Ok(())
    }

    /// Runs a transaction of random operations that also reads its own changes.
    fn transaction(&mut self) -> Outcome {
        let durability = if self.rng.below(4) == 0 { Durability::Sync } else { Durability::Relaxed };
        let mut tx = self.store.begin_write_with(durability)?;
        let mut maps = self.maps.clone();
        for _ in 0..self.rng.below(30) {
            match self.rng.below(20) {
                0 => self.load(&mut tx, &mut maps)?,
                1 => check_transaction(&mut tx, &maps)?,
                2..14 => self.change_stops(&mut tx, &mut maps.stops)?,
                _ => self.change_legs(&mut tx, &mut maps.legs)?,
            }
        }
        match self.rng.below(10) {
            0 => tx.abort(),
            1 => drop(tx),
            _ => {
                if self.rng.below(2) == 0 {
                    check_transaction(&mut tx, &maps)?;
                }
                let before = self.store.begin_read()?.seq();
                let seq = tx.commit().map_err(|error: CommitError| error.to_string())?.seq;
                assert!(seq >= before);
                self.maps = maps;
            }
        }
        Ok(())
    }

    fn check(&self) -> Outcome {
        check_snapshot(&self.store.begin_read()?, &self.maps, STOPS, LEGS)?;
        for (snapshot, maps) in &self.pinned {
            check_snapshot(snapshot, maps, STOPS, LEGS)?;
        }
        Ok(())
    }

    /// Runs one step: usually a transaction, sometimes another operation.
    fn step(&mut self) -> Outcome {
        match self.rng.below(12) {
            0 => self.pinned.push((self.store.begin_read()?, self.maps.clone())),
            1 if !self.pinned.is_empty() => {
                let place = self.rng.below(self.pinned.len() as u64) as usize;
                self.pinned.swap_remove(place);
            }
            2 if self.rng.below(3) == 0 => {
                self.store.rebuild_index::<Stop>()?;
                self.store.rebuild_index::<Leg>()?;
            }
            _ => self.transaction()?,
        }
        if self.pinned.len() > 6 {
            self.pinned.remove(0);
        }
        self.check()
    }

    /// Closes the store and opens it again.
    fn reopen(self, path: &Path) -> Outcome<Self> {
        let Self { store, maps, pinned, rng, clock } = self;
        drop(pinned);
        store.close()?;
        let run = Self { store: open(path)?, maps, pinned: Vec::new(), rng, clock };
        run.check()?;
        Ok(run)
    }
}

fn options() -> Options {
    Options::new().chunk_size(64 << 10).checkpoint_bytes(1 << 20)
}

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { options().open(path) }
}

#[test]
fn in_memory() -> Outcome {
    let mut run = Run::new(options().in_memory()?, Random::seeded("in_memory"));
    for _ in 0..500 {
        run.step()?;
    }
    assert!(run.clock > 5000, "only {} rows were made", run.clock);
    Ok(())
}

#[test]
fn on_disk() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pongo");
    let mut run = Run::new(open(&path)?, Random::seeded("on_disk"));
    for _ in 0..20 {
        for _ in 0..25 {
            run.step()?;
        }
        run = run.reopen(&path)?;
    }
    assert!(run.clock > 5000, "only {} rows were made", run.clock);
    Ok(())
}

/// Copies the files of an open store, as if the process had ended without closing it: the copy is
/// what a power failure leaves when the store is idle after a `Sync` commit.
#[test]
fn copy_of_an_open_store() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut run = Run::new(open(&folder.path().join("0.pongo"))?, Random::seeded("on_a_copy"));
    for round in 0..12 {
        for _ in 0..15 {
            run.step()?;
        }
        let mut tx = run.store.begin_write()?;
        let stop = run.stop(&mut tx)?;
        tx.table::<Stop>()?.put(&stop)?;
        tx.commit()?;
        run.maps.stops.insert(stop.id, stop.visits);
        let (from, to) = (format!("{round}.pongo"), format!("{}.pongo", round + 1));
        folder::copy(&folder.path().join(from), &folder.path().join(&to))?;
        let Run { maps, rng, clock, .. } = run;
        run = Run { store: open(&folder.path().join(to))?, maps, pinned: Vec::new(), rng, clock };
        run.check()?;
    }
    Ok(())
}

/// Recovery leaves deleted keys out of the index that it rebuilds, so that rows put later have no
/// link to deleted ones.
#[test]
fn key_reinserted_after_power_cut() -> Outcome {
    let folder = tempfile::tempdir()?;
    let leg = |minutes| Leg { from: 1, to: 2, closed: false, _pad: 0, minutes };
    let store = open(&folder.path().join("before.pongo"))?;
    for minutes in 0..3 {
        let tx = store.begin_write()?;
        tx.table::<Leg>()?.put(&leg(minutes))?;
        tx.commit()?;
        let tx = store.begin_write()?;
        tx.table::<Leg>()?.delete((2, 1))?;
        tx.commit()?;
    }
    folder::copy(&folder.path().join("before.pongo"), &folder.path().join("after.pongo"))?;
    let store = open(&folder.path().join("after.pongo"))?;
    let tx = store.begin_write()?;
    assert!(!tx.table::<Leg>()?.put(&leg(7))?);
    tx.commit()?;
    store.rebuild_index::<Leg>()?;
    let put = store.begin_read()?;
    assert_eq!(put.table::<Leg>()?.get((2, 1))?, Some(&leg(7)));
    let tx = store.begin_write()?;
    assert!(tx.table::<Leg>()?.delete((2, 1))?);
    tx.commit()?;
    store.rebuild_index::<Leg>()?;
    assert_eq!(put.table::<Leg>()?.get((2, 1))?, Some(&leg(7)));
    assert_eq!(store.begin_read()?.table::<Leg>()?.get((2, 1))?, None);
    Ok(())
}

/// Other threads read old snapshots while commits and rebuilds run.
#[test]
fn snapshots_in_other_threads() -> Outcome {
    let mut run = Run::new(options().in_memory()?, Random::seeded("snapshots_in_other_threads"));
    for _ in 0..40 {
        run.transaction()?;
    }
    for _ in 0..12 {
        let pinned = (run.store.begin_read()?, run.maps.clone());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| -> Outcome {
            let readers = [(); 3].map(|()| {
                scope.spawn(|| -> Result<u32, String> {
                    let mut times = 0;
                    while times == 0 || !done.load(std::sync::atomic::Ordering::Acquire) {
                        check_snapshot(&pinned.0, &pinned.1, STOPS, LEGS)
                            .map_err(|error| error.to_string())?;
                        times += 1;
                    }
                    Ok(times)
                })
            });
            let mut work = || -> Outcome {
                for _ in 0..5 {
                    run.transaction()?;
                }
                run.store.rebuild_index::<Stop>()?;
                run.store.rebuild_index::<Leg>()?;
                run.check()
            };
            let worked = work();
            done.store(true, std::sync::atomic::Ordering::Release);
            for reader in readers {
                let times = reader.join().expect("a reader does not panic")?;
                assert!(times > 0);
            }
            worked
        })?;
    }
    Ok(())
}
