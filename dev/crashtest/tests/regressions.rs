//! Cases from a review: the state that one process or one recovery leaves for the next.

use pongo::prelude::*;
use pongo_crashtest::{Change, Differences, StoreModel, Transaction, look, options};
use pongo_sim::{Call, Disk, Fault, FaultPlan, Faults, Image, Random, Repeat};

const EIO: i32 = 5;
const EMFILE: i32 = 24;

fn commit(store: &Store, world: &StoreModel, change: Change, durability: Durability) -> StoreModel {
    let transaction = Transaction::of(world, vec![change], durability);
    transaction.apply(world, store).unwrap();
    transaction.after
}

fn sit(who: u64) -> Change {
    Change::PutSeat { seat: (1, 1), who }
}

fn stop(id: u64) -> Change {
    Change::PutStop { id, visits: 1 }
}

/// Restores these files from a copy of the folder.
fn put_back(disk: &Disk, copy: &Image, is_wanted: impl Fn(&str) -> bool) {
    let now = Image::of(&**disk.inner()).unwrap();
    for (path, _) in now.files().filter(|(path, _)| is_wanted(path)) {
        disk.inner().remove(path).unwrap();
    }
    for (path, bytes) in copy.files().filter(|(path, _)| is_wanted(path)) {
        disk.inner().create(path).unwrap().write_at(bytes, 0).unwrap();
    }
}

/// Returns a disk whose power was cut after a `Relaxed` commit, and the world without that commit.
/// The cut may have lost the commit and kept the deletion that the commit stored in the marks.
fn cut(seed: u64) -> (Disk, StoreModel) {
    let disk = Disk::new();
    let store = options().open_on(disk.process().storage()).unwrap();
    let mut world = commit(&store, &StoreModel::default(), sit(3), Durability::Sync);
    world = commit(&store, &world, sit(4), Durability::Sync);
    store.close().unwrap();
    let process = disk.process();
    let store = options().open_on(process.storage()).unwrap();
    world = commit(&store, &world, stop(1), Durability::Sync);
    commit(&store, &world, sit(5), Durability::Relaxed);
    process.kill();
    drop(store);
    (disk.power_cycle(&mut Random(seed)), world)
}

fn fails_at(number: usize, errno: i32) -> Faults {
    let faults = Faults::new();
    faults.plan(Fault { at: number as u64, errno, partly: false, repeat: Repeat::Never });
    faults
}

/// The first recovery cannot sync the marks that it cleared; the second ends early with another
/// error. The third must still know that memory and disk differ.
#[test]
fn repeated_recovery_restores_lost_data() {
    let mut tried = 0;
    for seed in 0..60 {
        let (disk, world) = cut(seed);
        let faults = Faults::new();
        faults.begin_trace();
        let store = options().open_on(faults.storage(&disk.process())).unwrap();
        let calls = faults.end_trace();
        let is_lost = look(&store, &world) == Differences::default();
        drop(store);
        let of_marks = |(call, path): &(Call, String)| *call == Call::Sync && path.ends_with("seats/0.marks");
        let of_journal = |(call, path): &(Call, String)| *call == Call::List && path == "journal";
        let (true, Some(sync)) = (is_lost, calls.iter().position(of_marks)) else { continue };
        let list = calls.iter().position(of_journal).expect("the journal's files are looked for");
        tried += 1;

        let (disk, mut world) = cut(seed);
        for faults in [fails_at(sync, EIO), fails_at(list, EMFILE)] {
            let opened = options().open_on(faults.storage(&disk.process()));
            opened.expect_err("a call of its recovery fails");
        }
        let store = options().open_on(disk.process().storage()).unwrap();
        for id in 2..4 {
            world = commit(&store, &world, stop(id), Durability::Sync);
        }
        store.close().unwrap();
        let disk = disk.power_cycle(&mut Random(seed + 1000));
        let store = options().open_on(disk.process().storage()).unwrap();
        look(&store, &world).assert_ok();
    }
    assert!(tried > 10, "{tried} cuts lost the commit");
}

/// One process opens a closed store and changes nothing; another deletes a row and closes; the
/// first process closes last, and must treat the marks that the other process wrote as valid.
#[test]
fn idle_holder_closes_after_other_deletes() {
    for ordered in [false, true] {
        let disk = Disk::new();
        let open = || options().ordered(ordered).open_on(disk.process().storage()).unwrap();
        let store = open();
        let load = Change::LoadStops { from: 0, rows: 9, visits: 3 };
        let mut world = commit(&store, &StoreModel::default(), load, Durability::Sync);
        store.close().unwrap();
        let holds = open();
        let other = open();
        world = commit(&other, &world, Change::DeleteStop { id: 4 }, Durability::Sync);
        other.close().unwrap();
        holds.close().unwrap();
        look(&open(), &world).assert_ok();
    }
}

/// The index of one table is missing from a store that was closed cleanly. It is rebuilt, and the
/// indexes of the other tables stay correct, both for the process that opened the store and for one
/// that joins.
#[test]
fn one_lost_index_spares_the_others() {
    for lost in ["stops", "seats", "notes"] {
        let disk = Disk::new();
        let open = || options().open_on(disk.process().storage()).unwrap();
        let store = open();
        let load = Change::LoadStops { from: 0, rows: 9, visits: 3 };
        let mut world = commit(&store, &StoreModel::default(), load, Durability::Sync);
        world = commit(&store, &world, sit(3), Durability::Sync);
        let note = Change::PutNote { key: b"key".to_vec(), group: 1 };
        world = commit(&store, &world, note, Durability::Sync);
        store.close().unwrap();
        disk.without_faults(|| {
            let folder = format!("hash/{lost}");
            for name in disk.inner().list(&folder).unwrap() {
                disk.inner().remove(&format!("{folder}/{name}")).unwrap();
            }
        });
        let first = open();
        let second = open();
        look(&second, &world).assert_ok();
        look(&first, &world).assert_ok();
        drop((first, second));
        look(&open(), &world).assert_ok();
    }
}

/// The index of a closed store is corrupt, and one process has the store open to read. Another
/// process that joins to write rebuilds the index, as the first would.
#[test]
fn joining_process_rebuilds_corrupt_index() {
    let disk = Disk::new();
    let open = || options().open_on(disk.process().storage()).unwrap();
    let store = open();
    let load = Change::LoadStops { from: 0, rows: 9, visits: 3 };
    let world = commit(&store, &StoreModel::default(), load, Durability::Sync);
    store.close().unwrap();
    let pieces = disk.inner().list("hash/stops").unwrap().into_iter().filter(|name| name.ends_with(".piece"));
    let flipped = pieces.filter(|name| {
        let file = disk.inner().open(&format!("hash/stops/{name}")).unwrap();
        let mut entries = vec![0; file.len().unwrap() as usize - 64];
        file.read_at(&mut entries, 64).unwrap();
        let Some(at) = entries.iter().position(|&byte| byte != 0) else { return false };
        file.write_at(&[entries[at] ^ 1], 64 + at as u64).unwrap();
        true
    });
    assert!(flipped.count() > 0, "there are entries");
    let (reader, writer) = (open(), open());
    look(&reader, &world).assert_no_wrong_answers();
    let world = commit(&writer, &world, stop(20), Durability::Sync);
    look(&writer, &world).assert_ok();
    look(&reader, &world).assert_ok();
}

/// Everything except the hash indexes, or only the hash indexes, is restored from a copy that was
/// taken when an earlier process was killed, without a reboot. `control` says that the system's
/// memory survived; it did, but it does not match the restored files.
#[test]
fn index_of_other_copy_is_rejected() {
    for indexes in [false, true] {
        let is_put_back = |path: &str| path.starts_with("hash/") == indexes;
        let disk = Disk::new();
        let live = |world: &StoreModel, changes: &[Change]| {
            let process = disk.process();
            let store = options().open_on(process.storage()).unwrap();
            let mut world = world.clone();
            for change in changes {
                world = commit(&store, &world, change.clone(), Durability::Sync);
            }
            process.kill();
            drop(store);
            world
        };
        let load = |visits| Change::LoadStops { from: 0, rows: 9, visits };
        let older = live(&StoreModel::default(), &[load(1), sit(3), stop(20)]);
        let copy = Image::of(&**disk.inner()).unwrap();
        let newer = live(&older, &[load(2), sit(4), Change::DeleteStop { id: 3 }]);
        put_back(&disk, &copy, is_put_back);
        let store = options().open_on(disk.process().storage()).unwrap();
        let world = if indexes { newer } else { older };
        look(&store, &world).assert_ok();
        let world = commit(&store, &world, load(5), Durability::Sync);
        look(&store, &world).assert_ok();
        store.close().unwrap();
        look(&options().open_on(disk.process().storage()).unwrap(), &world).assert_ok();
    }
}

/// The same if no checkpoint contains the table and the last commit was journalled but not
/// published. The commit is replayed; the `Seq` that the index has reached is checked before that.
#[test]
fn index_of_older_copy_is_rejected() {
    let mut tried = 0;
    for at in 0..400 {
        let disk = Disk::new();
        let process = disk.process();
        let store = options().open_on(process.storage()).unwrap();
        let first = commit(&store, &StoreModel::default(), stop(1), Durability::Sync);
        let copy = Image::of(&**disk.inner()).unwrap();
        let world =
            commit(&store, &first, Change::LoadStops { from: 10, rows: 9, visits: 2 }, Durability::Sync);
        disk.plan(0, |now| FaultPlan::Kill(now + at));
        let last = Transaction::of(&world, vec![stop(30)], Durability::Sync);
        let done = last.apply(&world, &store);
        disk.plan(0, |_| FaultPlan::Nothing);
        if !process.is_dead() {
            done.unwrap();
            break;
        }
        drop(store);
        put_back(&disk, &copy, |path| path.starts_with("hash/"));
        let store = options().open_on(disk.process().storage()).unwrap();
        let seq = store.begin_read().unwrap().seq().0;
        look(&store, if seq == world.seq { &world } else { &last.after }).assert_ok();
        tried += 1;
    }
    assert!(tried > 10, "{tried} operations");
}

/// `control` and the indexes are from a copy that is older than the newest checkpoint: the
/// published `Seq` in it is lower than that of the checkpoint, and entries up to the checkpoint are
/// no longer replayed.
#[test]
fn index_older_than_checkpoint_is_rejected() {
    let disk = Disk::new();
    let live = |world: &StoreModel, change: Option<Change>| {
        let process = disk.process();
        let store = options().open_on(process.storage()).unwrap();
        let world = change.map_or(world.clone(), |change| commit(&store, world, change, Durability::Sync));
        process.kill();
        drop(store);
        world
    };
    let world = live(&StoreModel::default(), Some(stop(1)));
    let copy = Image::of(&**disk.inner()).unwrap();
    let world = live(&world, Some(Change::LoadStops { from: 10, rows: 9, visits: 2 }));
    // Recovered, which ends with a checkpoint, and killed.
    let world = live(&world, None);
    put_back(&disk, &copy, |path| path == "control" || path.starts_with("hash/"));
    let store = options().open_on(disk.process().storage()).unwrap();
    look(&store, &world).assert_ok();
}
