//! Regression tests: one test for each defect that the other tests found.

use std::io::ErrorKind;

use pongo::WriteError;
use pongo::prelude::*;
use pongo_crashtest::{Change, Differences, StoreModel, Transaction, look, look_at, options};
use pongo_sim::{Call, Disk, Fault, FaultPlan, Faults, OpKind, Random, Repeat};

#[pongo::record]
#[pongo(table = "points")]
struct Point {
    #[pongo(key)]
    id: u64,
    left: u64,
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;

fn commit(store: &Store, world: &mut StoreModel, change: Change) {
    let transaction = Transaction::of(world, vec![change], Durability::Sync);
    transaction.apply(world, store).unwrap();
    *world = transaction.after;
}

/// Creates a store and closes it cleanly.
fn closed() -> (Disk, StoreModel) {
    let (disk, mut world) = (Disk::new(), StoreModel::default());
    let store = options().open_on(disk.process().storage()).unwrap();
    commit(&store, &mut world, Change::LoadStops { from: 0, rows: 9, visits: 3 });
    commit(&store, &mut world, Change::DeleteStop { id: 4 });
    store.close().unwrap();
    (disk, world)
}

/// Returns a fault for the first call of a function on a file whose path contains `name`, according
/// to a trace of the same work.
fn fail_first(call: Call, name: &str, trace: &[(Call, String)]) -> Fault {
    let at = trace.iter().position(|(other, path)| *other == call && path.contains(name));
    Fault { at: at.expect("it is called") as u64, errno: EIO, partly: false, repeat: Repeat::Never }
}

/// The index of a cleanly closed store is missing and is rebuilt by an open that writes nothing.
/// The next open found the index without a checksum, and no row by its key. (`whatever_call_fails`,
/// seed 1, case `88,12,false,File,false`.)
#[test]
fn index_rebuilt_by_reader_has_checksum() {
    let (disk, world) = closed();
    disk.without_faults(|| {
        for name in disk.inner().list("hash/stops").unwrap() {
            disk.inner().remove(&format!("hash/stops/{name}")).unwrap();
        }
    });
    for _ in 0..3 {
        let store = options().open_on(disk.process().storage()).unwrap();
        look(&store, &world).assert_ok();
        store.close().unwrap();
    }
}

/// The folder of an index was never synced into its parent folder: a power cut after a clean close
/// deleted the index.
#[test]
fn index_folder_survives_a_cut() {
    for seed in 0..8 {
        let (disk, world) = closed();
        let disk = disk.power_cycle(&mut Random(seed));
        assert!(disk.inner().open("hash/stops/head").is_ok(), "seed {seed}");
        let store = options().open_on(disk.process().storage()).unwrap();
        look(&store, &world).assert_ok();
    }
}

/// The sync of an index failed with a full disk when the store was closed. The drop after it closed
/// the store once more, found nothing left to sync, and marked the store as closed cleanly. (Case
/// `2121,28,false,Never,Alone`.)
#[test]
fn failed_index_sync_prevents_clean_close() {
    let work = |faults: &Faults, disk: &Disk| {
        let mut world = StoreModel::default();
        let store = options().open_on(disk.process().storage()).unwrap();
        commit(&store, &mut world, Change::LoadStops { from: 0, rows: 9, visits: 3 });
        store.close().unwrap();
        let store = options().open_on(faults.storage(&disk.process())).unwrap();
        commit(&store, &mut world, Change::LoadStops { from: 20, rows: 9, visits: 3 });
        (store.close(), world)
    };
    let faults = Faults::new();
    faults.begin_trace();
    work(&faults, &Disk::new()).0.unwrap();
    let trace = faults.end_trace();
    let syncs =
        trace.iter().enumerate().filter(|(_, (call, path))| *call == Call::Sync && path.contains("hash/"));
    for (at, _) in syncs {
        for seed in 0..6 {
            let (faults, disk) = (Faults::new(), Disk::new());
            disk.plan(seed, |_| FaultPlan::Nothing);
            faults.plan(Fault { at: at as u64, errno: 28, partly: false, repeat: Repeat::Never });
            let (closed, world) = work(&faults, &disk);
            let error = closed.expect_err("a sync fails").to_string();
            assert!(error.contains("hash/") && error.contains("free some space"), "{error}");
            let disk = disk.power_cycle(&mut Random(seed));
            let store = options().open_on(disk.process().storage()).unwrap();
            look(&store, &world).assert_ok();
        }
    }
}

/// The sync of a new table's schema failed, and the store accepted further writes. (Case
/// `83,5,false,Never,false`.)
#[test]
fn failed_schema_sync_poisons() {
    let work = |faults: &Faults, disk: &Disk| {
        let store = options().open_on(faults.storage(&disk.process())).unwrap();
        let world = StoreModel::default();
        let change = Change::PutStop { id: 1, visits: 2 };
        let done = Transaction::of(&world, vec![change], Durability::Sync).apply(&world, &store);
        (store, done)
    };
    let faults = Faults::new();
    faults.begin_trace();
    work(&faults, &Disk::new()).1.unwrap();
    let fault = fail_first(Call::Sync, "schema/0.1", &faults.end_trace());
    faults.plan(fault);
    let (store, done) = work(&faults, &Disk::new());
    let error = done.expect_err("a sync fails").to_string();
    assert!(error.contains("syncing schema/0.1.schema.new failed"), "{error}");
    assert!(matches!(store.begin_write(), Err(pongo::WriteError::Poisoned { .. })));
    look(&store, &StoreModel::default()).assert_ok();
}

/// A store without its `super` file whose tables could not be listed was treated as a new store:
/// its journal was removed.
#[test]
fn unlistable_tables_are_not_missing() {
    let (disk, _) = closed();
    disk.without_faults(|| disk.inner().remove("super").unwrap());
    let before = disk.inner().list("journal").unwrap();
    let faults = Faults::new();
    faults.begin_trace();
    assert!(options().open_on(faults.storage(&disk.process())).is_err(), "no super file");
    let fault = fail_first(Call::List, "tables", &faults.end_trace());
    faults.plan(fault);
    let error = options().open_on(faults.storage(&disk.process())).expect_err("no list").to_string();
    assert!(error.contains("cannot list tables"), "{error}");
    assert_eq!(disk.inner().list("journal").unwrap(), before);
    assert_eq!(disk.inner().open("super").expect_err("it is gone").kind(), ErrorKind::NotFound);
}

/// A file length that could not be read was counted as zero.
#[test]
fn stats_are_right_or_an_error() {
    let (disk, _) = closed();
    let faults = Faults::new();
    let store = options().open_on(faults.storage(&disk.process())).unwrap();
    faults.begin_trace();
    let right = store.stats().unwrap().bytes.total();
    let trace = faults.end_trace();
    for name in ["journal/", "heap/", "tables/stops/", "hash/stops/", "schema/"] {
        if let Some(at) = trace.iter().position(|(call, path)| *call == Call::Len && path.starts_with(name)) {
            faults.plan(Fault { at: at as u64, errno: EIO, partly: false, repeat: Repeat::Never });
            let error = store.stats().expect_err("a length cannot be had").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
    faults.clear();
    assert_eq!(store.stats().unwrap().bytes.total(), right);
}

/// A marks file was created, could not be mapped, and was not recorded. Another process continued
/// to use it, and this process did not find rows by their key that the other had replaced. (Case
/// `458,12,false,All,Alone`.)
#[test]
fn marks_of_other_process_are_seen() {
    // The marks of seats are created by the first commit that replaces a seat.
    let first = |faults: &Faults, disk: &Disk, world: &mut StoreModel| {
        let store = options().open_on(faults.storage(&disk.process())).unwrap();
        commit(&store, world, Change::PutSeat { seat: (1, 1), who: 3 });
        store
    };
    let replace = |world: &StoreModel, store: &Store, who| {
        let change = Change::PutSeat { seat: (1, 1), who };
        let transaction = Transaction::of(world, vec![change], Durability::Sync);
        transaction.apply(world, store).map(|_| transaction.after)
    };
    let (faults, (disk, mut world)) = (Faults::new(), closed());
    let store = first(&faults, &disk, &mut world);
    faults.begin_trace();
    replace(&world, &store, 4).unwrap();
    let fault = fail_first(Call::MapWords, "tables/seats/0.marks", &faults.end_trace());

    let (disk, mut world) = closed();
    let store = first(&faults, &disk, &mut world);
    let (held, seen) = (store.begin_read().unwrap(), world.clone());
    faults.plan(fault);
    let error = replace(&world, &store, 4).expect_err("there is no memory for the map").to_string();
    assert!(error.contains("tables/seats/0.marks"), "{error}");
    faults.clear();
    let other = options().open_on(disk.process().storage()).unwrap();
    look(&other, &world).assert_ok();
    world = replace(&world, &other, 5).unwrap();
    let mut looked = Differences::default();
    look_at(&held, &seen, &mut looked);
    looked.assert_ok();
    look(&store, &world).assert_ok();
}

/// Each call that `verify` makes fails in turn, and nothing is damaged. Data that could not be read
/// is reported separately from damage, with the advice to verify again and not to restore a copy.
#[test]
fn verify_separates_io_errors_from_damage() {
    let work = |faults: &Faults, fault: Option<Fault>| {
        let (disk, mut world) = closed();
        let store = options().open_on(disk.process().storage()).unwrap();
        commit(&store, &mut world, Change::PutNote { key: b"a note".to_vec(), group: 1 });
        commit(&store, &mut world, Change::PutSeat { seat: (1, 2), who: 3 });
        store.close().unwrap();
        let store = options().open_on(faults.storage(&disk.process())).unwrap();
        match fault {
            Some(fault) => faults.plan(fault),
            None => faults.begin_trace(),
        }
        let report = store.verify(|_| ());
        faults.pause(true);
        drop(store);
        report
    };
    let faults = Faults::new();
    assert!(work(&faults, None).unwrap().is_valid());
    let calls = faults.end_trace().len() as u64;
    let (mut unread, mut tried) = (0, 0);
    for at in 0..calls {
        for (errno, repeat) in [(EIO, Repeat::Never), (EIO, Repeat::Call), (EMFILE, Repeat::File)] {
            let faults = Faults::new();
            let Ok(report) = work(&faults, Some(Fault { at, errno, partly: false, repeat })) else {
                continue;
            };
            tried += 1;
            assert!(report.issues.is_empty(), "call {at} of {calls}, {:?}: {report}", faults.failed(0));
            if !report.unread.is_empty() {
                unread += 1;
                assert!(!report.is_valid());
                let text = report.to_string();
                assert!(text.contains("verify again") && !text.contains("restore"), "{text}");
            }
        }
    }
    assert!(unread > 5, "{unread} of {tried} reports, {calls} calls");
}

/// Rows of a transaction that exceeds its memory limit cannot be written. The refused call changed
/// nothing and can be repeated.
#[test]
fn failed_spill_keeps_row_unchanged() {
    let disk = Disk::new();
    let store = options().transaction_memory(64 << 10).open_on(disk.process().storage()).unwrap();
    let tx = store.begin_write().unwrap();
    let mut points = tx.table::<Point>().unwrap();
    (0..2000).for_each(|id| points.insert(&Point { id, left: 1000 }).unwrap());
    disk.plan(0, |_| FaultPlan::FailOn(OpKind::Write, "tables", ErrorKind::StorageFull));
    let (mut refused, mut put) = (0, 2000);
    while refused < 3 {
        match points.insert(&Point { id: put, left: 1000 }) {
            Ok(()) => put += 1,
            Err(error) => {
                assert!(matches!(error, WriteError::Storage(_)), "{error}");
                assert!(!points.contains(put).unwrap());
                refused += 1;
            }
        }
    }
    assert_eq!(points.len().unwrap(), put);
    disk.plan(0, |_| FaultPlan::Nothing);
    points.insert(&Point { id: put, left: 1000 }).unwrap();
    // Rows that were written can be changed again, each once, regardless of the calls that were
    // refused.
    disk.plan(0, |_| FaultPlan::FailOn(OpKind::Write, "tables", ErrorKind::StorageFull));
    let mut changed = 0;
    while points.update(changed, |point| point.left -= 1).is_ok() {
        changed += 1;
    }
    assert!(changed <= put, "memory is full before all are changed");
    disk.plan(0, |_| FaultPlan::Nothing);
    for id in changed..=put {
        points.update(id, |point| point.left -= 1).unwrap();
    }
    drop(points);
    tx.commit().unwrap();
    let snapshot = store.begin_read().unwrap();
    let points = snapshot.table::<Point>().unwrap();
    assert_eq!(points.len(), put + 1);
    assert!(points.rows().all(|point| point.unwrap().left == 999));
}
