//! Ranges compared with `BTreeMap`s: random operations, snapshots of all ages, both ends, cursors,
//! secondary indexes, and reopening with sled's folder deleted, damaged or restored in between. The
//! results are the same in every state of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};
use std::path::Path;

use pongo::ReadError;
use pongo::prelude::*;
use pongo_test_support::{Outcome, Random, bound, folder, mix};

/// A row with a key of two fields, and indexes of every kind of field.
#[pongo::record]
#[pongo(table = "cars")]
#[pongo(index(town, seats))]
#[derive(Clone, Copy, pongo::zerocopy::IntoBytes, Debug, PartialEq)]
struct Car {
    #[pongo(key)]
    maker: FixedStr<4>,
    #[pongo(key)]
    number: i32,
    #[pongo(index)]
    price: f64,
    #[pongo(index)]
    town: FixedStr<4>,
    seats: u16,
    _pad: [u8; 2],
    #[pongo(index)]
    owner: Maybe<u64>,
}

type Key = (String, i32);
type Map = BTreeMap<Key, Car>;
fn name(number: u64) -> FixedStr<4> {
    let names = ["", "A", "AB", "ABBA", "B", "BMW", "F", "VW", "ZZZZ", "\u{e9}"];
    names[number as usize % names.len()].parse().unwrap_or_default()
}

fn car(rng: &mut Random, keys: u64) -> Car {
    let (key, value) = (mix(rng.below(keys)), rng.next());
    Car {
        maker: name(key),
        number: (key >> 40) as i32 % 300 - 150,
        price: [0.0, -0.0, 1.5, -3.25, f64::INFINITY, f64::NAN, 1e-300, 7.0][value as usize % 8],
        town: name(value >> 8),
        seats: (value >> 16) as u16 % 5,
        _pad: [0; 2],
        owner: Maybe::from((value >> 24 & 3 != 0).then_some(value >> 60)),
    }
}

fn key_of(car: &Car) -> Key {
    (car.maker.as_str().to_owned(), car.number)
}

/// Returns the sort key of a row in the index on `price`, computed by the test itself.
fn by_price(car: &Car) -> (u8, i64) {
    // The order of `total_cmp`, with one zero and one NaN.
    let value = if car.price.is_nan() { return (1, 0) } else { car.price + 0.0 };
    let bits = value.to_bits() as i64;
    (0, bits ^ (((bits >> 63) as u64) >> 1) as i64)
}

/// Returns whether both lists have the same bytes. Comparing bytes makes NaN equal to itself.
fn same(a: &[&Car], b: &[&Car]) -> bool {
    use pongo::zerocopy::IntoBytes;
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.as_bytes() == b.as_bytes())
}

fn rows<'s>(range: impl Iterator<Item = Result<&'s Car, ReadError>>) -> Vec<&'s Car> {
    range.map(|row| row.expect("the rows are sound")).collect()
}

struct Run {
    store: Option<Store>,
    map: Map,
    pinned: Vec<(Snapshot, Map)>,
    rng: Random,
    keys: u64,
}

impl Run {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn commit(&mut self) -> Outcome {
        let relaxed = self.rng.below(2) == 0;
        let durability = if relaxed { Durability::Relaxed } else { Durability::Sync };
        let tx = self.store().begin_write_with(durability)?;
        let mut map = self.map.clone();
        let bulk = self.rng.below(4) == 0;
        if bulk {
            let cars: Vec<Car> = (0..self.rng.below(600)).map(|_| car(&mut self.rng, self.keys)).collect();
            map.extend(cars.iter().map(|car| (key_of(car), *car)));
            tx.table::<Car>()?.extend(cars)?;
        }
        for _ in 0..self.rng.below(40) {
            let car = car(&mut self.rng, self.keys);
            let mut table = tx.table::<Car>()?;
            if self.rng.below(3) == 0 {
                assert_eq!(table.delete((car.maker, car.number))?, map.remove(&key_of(&car)).is_some());
            } else {
                assert_eq!(table.put(&car)?, map.insert(key_of(&car), car).is_some());
            }
        }
        if self.rng.below(3) == 0 {
            let (from, to) = (name(self.rng.next()), name(self.rng.next()));
            let bounds = (Bound::Included((from, -20)), Bound::Excluded((to, 30)));
            let own = |key: &(FixedStr<4>, i32)| (key.0.as_str().to_owned(), key.1);
            let (start, end) = (own(&(from, -20)), own(&(to, 30)));
            let mut table = tx.table::<Car>()?;
            if start > end {
                assert_eq!(table.delete_range(bounds)?, 0);
                assert_eq!(table.modify(bounds, |_| unreachable!("no key is within the bounds"))?, 0);
            } else if self.rng.below(4) == 0 {
                let gone: Vec<Key> = map.range(start..end).map(|(key, _)| key.clone()).collect();
                assert_eq!(table.delete_range(bounds)?, gone.len() as u64);
                map.retain(|key, _| !gone.contains(key));
            } else {
                let mut keys = Vec::new();
                let changed = table.modify(bounds, |car| {
                    keys.push(key_of(car));
                    car.seats = (car.seats + 1) % 5;
                })?;
                assert!(keys.is_sorted() && keys.len() as u64 == changed);
                let cars = map.range_mut(start..end);
                let wanted: Vec<Key> = cars
                    .map(|(key, car)| {
                        car.seats = (car.seats + 1) % 5;
                        key.clone()
                    })
                    .collect();
                assert_eq!(keys, wanted);
            }
        }
        if self.rng.below(8) == 0 {
            tx.abort();
        } else {
            tx.commit()?;
            self.map = map;
        }
        if self.rng.below(3) == 0 && self.pinned.len() < 6 {
            self.pinned.push((self.store().begin_read()?, self.map.clone()));
        }
        Ok(())
    }

    fn check_all(&mut self) -> Outcome {
        let newest = self.store().begin_read()?;
        check(&newest, &self.map, &mut self.rng)?;
        for (snapshot, map) in &self.pinned {
            check(snapshot, map, &mut self.rng)?;
        }
        Ok(())
    }
}

/// Checks every read method on one snapshot.
fn check(snapshot: &Snapshot, map: &Map, rng: &mut Random) -> Outcome {
    let cars = snapshot.table::<Car>()?;
    let all: Vec<&Car> = map.values().collect();
    assert!(same(&rows(cars.range(..)?), &all), "all rows in key order");
    assert!(same(&rows(cars.range(..)?.rev()), &all.iter().rev().copied().collect::<Vec<_>>()));
    assert_eq!(cars.first()?.map(key_of), map.keys().next().cloned());
    assert_eq!(cars.last()?.map(key_of), map.keys().next_back().cloned());

    // Bounds of all kinds, with rows taken from both ends in turn.
    let (from, to) =
        ((name(rng.next()), rng.below(300) as i32 - 150), (name(rng.next()), rng.below(300) as i32 - 150));
    let (from_kind, to_kind) = (rng.next(), rng.next());
    let own = |key: (FixedStr<4>, i32)| (key.0.as_str().to_owned(), key.1);
    let (start, end) = (bound(from_kind, own(from)), bound(to_kind, own(to)));
    let wanted: Vec<&Car> = map
        .iter()
        .filter(|(key, _)| (start.as_ref(), end.as_ref()).contains(*key))
        .map(|(_, car)| car)
        .collect();
    let bounds = (bound(from_kind, from), bound(to_kind, to));
    let mut range = cars.range(bounds)?;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while front.len() + back.len() <= wanted.len() {
        let take_back = rng.below(3) == 0;
        match if take_back { range.next_back() } else { range.next() } {
            None => break,
            Some(row) if take_back => back.push(row?),
            Some(row) => front.push(row?),
        }
    }
    assert!(range.next().is_none() && range.next_back().is_none());
    front.extend(back.into_iter().rev());
    assert!(same(&front, &wanted), "{bounds:?}: {front:?}, wanted {wanted:?}");
    assert_eq!(cars.count(bounds)?, wanted.len() as u64);

    // In pages.
    let mut paged = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let range = cars.range(bounds)?;
        let mut range = match &cursor {
            Some(cursor) => range.start_after(cursor)?,
            None => range,
        };
        let before = paged.len();
        paged.extend(rows(range.by_ref().take(1 + rng.below(40) as usize)));
        if paged.len() == before {
            break;
        }
        cursor = range.cursor()?.and_then(|cursor| Cursor::from_bytes(&cursor.to_bytes()));
    }
    assert!(same(&paged, &wanted), "pages");
    let mut paged = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let range = cars.range(bounds)?;
        let mut range = match &cursor {
            Some(cursor) => range.end_before(cursor)?,
            None => range,
        };
        let page = rows(range.by_ref().rev().take(1 + rng.below(40) as usize));
        if page.is_empty() {
            break;
        }
        paged.extend(page);
        cursor = range.cursor_back();
    }
    paged.reverse();
    assert!(same(&paged, &wanted), "pages from the back");

    // Prefixes of the key.
    let maker = name(rng.next());
    let wanted: Vec<&Car> = map.values().filter(|car| car.maker == maker).collect();
    assert!(same(&rows(cars.prefix((maker,))?), &wanted));
    for (row, car) in cars.prefix((maker,))?.entries().collect::<Result<Vec<_>, _>>()? {
        assert_eq!(cars.row(row)?.map(key_of), Some(key_of(car)));
    }
    check_secondary(&cars, map, rng)
}

/// Checks the secondary indexes: the values are sorted, and the rows are those of the map.
fn check_secondary(cars: &Table<'_, Car>, map: &Map, rng: &mut Random) -> Outcome {
    let keys = |rows: &[&Car]| rows.iter().map(|car| key_of(car)).collect::<BTreeSet<Key>>();
    let wanted = |keep: &dyn Fn(&Car) -> bool| {
        map.iter().filter(|(_, car)| keep(car)).map(|(key, _)| key.clone()).collect::<BTreeSet<Key>>()
    };
    let by = |found: Vec<&Car>, keep: &dyn Fn(&Car) -> bool, what: &str| {
        assert_eq!(keys(&found), wanted(keep), "{what}");
        assert_eq!(keys(&found).len(), found.len(), "{what}: each once");
    };
    let prices = rows(cars.by(Car::PRICE).all()?);
    assert!(prices.windows(2).all(|pair| by_price(pair[0]) <= by_price(pair[1])));
    by(prices, &|_| true, "all by price");
    by(rows(cars.by(Car::PRICE).eq(0.0)?), &|car| car.price == 0.0, "both zeros");
    by(rows(cars.by(Car::PRICE).eq(f64::NAN)?), &|car| car.price.is_nan(), "every NaN");
    by(rows(cars.by(Car::PRICE).range(0.0..7.0)?), &|car| (0.0..7.0).contains(&car.price), "a range");
    let last = cars.by(Car::PRICE).rev()?.next().transpose()?;
    assert_eq!(last.map(by_price), map.values().map(by_price).max());
    let town = name(rng.next());
    by(rows(cars.by(Car::TOWN).eq(town.as_str())?), &|car| car.town == town, "a town");
    by(rows(cars.by(Car::TOWN).prefix("AB")?), &|car| car.town.as_str().starts_with("AB"), "a prefix");
    by(rows(cars.by(Car::TOWN).eq("TOO LONG")?), &|_| false, "no such value");
    let seats = rng.below(5) as u16;
    let both = cars.by((Car::TOWN, Car::SEATS));
    by(rows(both.eq((town.as_str(), seats))?), &|car| car.town == town && car.seats == seats, "both");
    by(rows(both.prefix((town,))?), &|car| car.town == town, "the first of two");
    by(
        rows(both.range((town, seats)..)?.rev()),
        &|car| (car.town.as_str(), car.seats) >= (town.as_str(), seats),
        "from a pair on",
    );
    by(rows(cars.by(Car::OWNER).eq(Maybe::none())?), &|car| car.owner.get().is_none(), "without an owner");
    by(
        rows(cars.by(Car::OWNER).range(Maybe::some(3)..)?),
        &|car| car.owner.get().is_some_and(|&owner| owner >= 3),
        "with one",
    );
    assert_eq!(cars.by(Car::TOWN).count(town..=town)?, wanted(&|car| car.town == town).len() as u64);
    Ok(())
}

fn run(store: Store, seed: &str, commits: u64) -> Outcome {
    let mut run = Run {
        store: Some(store),
        map: Map::new(),
        pinned: Vec::new(),
        rng: Random::seeded(seed),
        keys: 3000,
    };
    for _ in 0..commits {
        run.commit()?;
        if run.rng.below(3) == 0 {
            run.store().catch_up_indexes()?;
        }
        if run.rng.below(3) == 0 {
            run.check_all()?;
        }
        if run.rng.below(4) == 0 && !run.pinned.is_empty() {
            let gone = run.rng.below(run.pinned.len() as u64) as usize;
            run.pinned.swap_remove(gone);
        }
    }
    run.check_all()
}

#[test]
fn ranges_in_memory_agree_with_maps() -> Outcome {
    run(Store::in_memory()?, "ranges_in_memory", 60)
}

#[test]
fn ranges_match_with_index_thread() -> Outcome {
    run(Options::new().ordered_tuning(50, 1 << 20, 100, 1 << 18).in_memory()?, "ranges_kept", 60)
}

#[test]
fn ranges_without_sled_match_maps() -> Outcome {
    run(Options::new().ordered(false).ordered_tuning(50, 100, 100, 16).in_memory()?, "ranges_scanned", 25)
}

#[test]
fn ranges_in_little_memory_match_maps() -> Outcome {
    // Some indexes fit in memory, some fit in part, some not at all; a few pairs are sorted at a
    // time.
    for kib in [0, 1, 16, 40] {
        let options = Options::new().ordered(false).ordered_tuning(50, u64::MAX, 100, 16);
        run(options.index_memory(kib << 10).in_memory()?, &format!("ranges_in_{kib}_kib"), 12)?;
    }
    Ok(())
}

#[test]
fn ranges_by_scan_match_maps() -> Outcome {
    run(Options::new().ordered(false).in_memory()?, "ranges_without", 40)
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    Ok(unsafe { Options::new().chunk_size(64 << 10).ordered_tuning(200, 1 << 20, 300, 64).open(path)? })
}

/// Changes sled's folder as may happen between two opens. Returns a description of the change.
fn harm(ordered: &Path, kept: &Path, rng: &mut Random) -> Outcome<&'static str> {
    let files = || -> Vec<std::path::PathBuf> {
        let mut folders = vec![ordered.to_path_buf()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => files.push(path),
                }
            }
        }
        files.sort();
        files
    };
    Ok(match rng.below(7) {
        0 => {
            let _ = std::fs::remove_dir_all(ordered);
            "deleted"
        }
        1 | 2 => {
            for file in files() {
                let mut bytes = std::fs::read(&file)?;
                if bytes.is_empty() {
                    continue;
                }
                for _ in 0..1 + rng.below(20) {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << rng.below(8);
                }
                std::fs::write(&file, bytes)?;
            }
            "bits flipped"
        }
        3 => {
            for file in files() {
                let len = std::fs::metadata(&file)?.len();
                std::fs::File::options().write(true).open(&file)?.set_len(rng.below(len + 1))?;
            }
            "cut short"
        }
        4 if kept.exists() => {
            let _ = std::fs::remove_dir_all(ordered);
            folder::copy(kept, ordered)?;
            "an older one restored"
        }
        5 if ordered.exists() => {
            let _ = std::fs::remove_dir_all(kept);
            folder::copy(ordered, kept)?;
            "kept for later"
        }
        _ => "left alone",
    })
}

#[test]
fn ranges_match_maps_despite_sled_damage() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cars.pongo");
    let mut rng = Random::seeded("ranges_on_disk");
    let mut state = Run {
        store: Some(open(&path)?),
        map: Map::new(),
        pinned: Vec::new(),
        rng: Random::seeded("inner"),
        keys: 3000,
    };
    for round in 0..14 {
        for _ in 0..1 + rng.below(5) {
            state.commit()?;
        }
        if rng.below(2) == 0 {
            state.store().catch_up_indexes()?;
        }
        state.check_all()?;
        state.pinned.clear();
        state.store.take().expect("it is open").close()?;
        let harm = harm(&path.join("ordered"), &folder.path().join("kept"), &mut rng)?;
        println!("round {round}: {harm}");
        state.store = Some(open(&path)?);
        // `catch_up_indexes` opens the index here, so that the damage is found.
        state.store().catch_up_indexes().map_or_else(|error| println!("settle: {error}"), |()| ());
        state.check_all()?;
    }
    Ok(())
}

#[test]
fn bad_ranges_are_refused_in_words() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Car>()?.put(&car(&mut Random::seeded("bad"), 10))?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let cars = snapshot.table::<Car>()?;
    let error = cars.by(Car::SEATS).eq(4).map(|_| ()).expect_err("seats have no index of their own");
    assert!(matches!(&error, ReadError::NoIndex { .. }), "{error}");
    assert!(error.to_string().contains("#[pongo(index)]"), "{error}");
    let mut by_town = cars.by(Car::TOWN).all()?;
    by_town.next();
    let cursor = by_town.cursor()?.ok_or("a row was given")?;
    let error = cars.range(..)?.start_after(&cursor).map(|_| ()).expect_err("a cursor of another index");
    assert!(matches!(error, ReadError::Cursor { .. }), "{error}");
    assert_eq!(Cursor::from_bytes(b"short"), None);
    Ok(())
}

#[pongo::record]
#[pongo(table = "events")]
struct Event {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    kind: u32,
    _pad: u32,
}

fn events(rows: u64, memory: u64) -> Outcome<Store> {
    let store = Options::new().ordered(false).index_memory(memory).in_memory()?;
    let tx = store.begin_write()?;
    let event = |number| Event { id: mix(number), kind: (mix(number) % 1000) as u32, _pad: 0 };
    tx.table::<Event>()?.extend((0..rows).map(event))?;
    tx.commit()?;
    Ok(store)
}

/// Compares a few of the least and greatest ids, and the number of events of one kind, with the
/// rows.
fn look_at_events(store: &Store) -> Outcome {
    let snapshot = store.begin_read()?;
    let events = snapshot.table::<Event>()?;
    let mut ids = events.rows().map(|row| row.map(|event| event.id)).collect::<Result<Vec<_>, _>>()?;
    let of_kind = events.filter(Event::KIND.eq(7)).count();
    ids.sort_unstable();
    let found =
        events.range(..)?.take(50).map(|row| row.map(|event| event.id)).collect::<Result<Vec<_>, _>>()?;
    assert!(found == ids[..50]);
    let last = events.range(..)?.rev().take(50).map(|row| row.map(|event| event.id));
    assert!(last.collect::<Result<Vec<_>, _>>()?.iter().eq(ids.iter().rev().take(50)));
    assert_eq!(events.by(Event::KIND).eq(7)?.count(), of_kind);
    Ok(())
}

/// Returns the number of rows that a range on each index scans, and the bytes of the sorted pairs.
fn scanned(store: &Store) -> Outcome<(Vec<u64>, u64)> {
    let stats = store.stats()?;
    let scanned = stats.tables[0].indexes.iter().map(|index| index.scanned).collect();
    Ok((scanned, stats.ordered.sorted_bytes))
}

#[test]
fn rows_without_room_are_looked_through() -> Outcome {
    const ROWS: u64 = 200_000;
    // A pair takes the key and 8 bytes: all pairs of the first index fit, and a part of the second.
    let memory = ROWS * 20;
    let store = events(ROWS, memory)?;
    for _ in 0..3 {
        look_at_events(&store)?;
    }
    let (looked, bytes) = scanned(&store)?;
    assert!(looked[0] == 0 && (1..ROWS).contains(&looked[1]), "{looked:?}");
    assert!((memory / 2..=memory).contains(&bytes), "{bytes} of {memory}");
    let said = store.stats()?.to_string();
    assert!(said.contains(&format!("a range scanned {} rows", looked[1])), "{said}");
    // Without memory all rows are scanned, and nothing is sorted.
    let store = events(ROWS, 0)?;
    look_at_events(&store)?;
    assert_eq!(scanned(&store)?, (vec![ROWS, ROWS], 0));
    Ok(())
}

#[test]
fn any_number_of_rows_is_sorted() -> Outcome {
    const ROWS: u64 = 2_200_000;
    let store = events(ROWS, 256 << 20)?;
    let first = |store: &Store| -> Outcome {
        let snapshot = store.begin_read()?;
        assert!(snapshot.table::<Event>()?.by(Event::KIND).eq(7)?.next().is_some());
        Ok(())
    };
    // The first range sorts a part of the rows; soon no row is left to scan.
    first(&store)?;
    let (looked, _) = scanned(&store)?;
    assert!(looked[1] > 0 && looked[1] < ROWS, "{looked:?}");
    first(&store)?;
    first(&store)?;
    let (looked, bytes) = scanned(&store)?;
    assert_eq!((looked[1], bytes), (0, ROWS * 12));
    // New rows are sorted separately, and deleted ones are left out.
    let tx = store.begin_write()?;
    tx.table::<Event>()?.delete_range(..)?;
    tx.table::<Event>()?.extend((0..100).map(|id| Event { id, kind: 7, _pad: 0 }))?;
    tx.commit()?;
    first(&store)?;
    assert_eq!(scanned(&store)?.0[1], 0);
    let snapshot = store.begin_read()?;
    assert_eq!(snapshot.table::<Event>()?.by(Event::KIND).eq(7)?.count(), 100);
    Ok(())
}

#[pongo::record]
#[pongo(table = "cities", index(name, size))]
#[derive(Debug, PartialEq, Clone, Copy)]
struct City {
    #[pongo(key)]
    id: u64,
    name: FixedStr<4>,
    size: u32,
}

#[pongo::record]
#[pongo(table = "spots", key = "external")]
#[derive(Debug, PartialEq, Clone, Copy)]
struct Spot {
    #[pongo(index)]
    name: FixedStr<4>,
    size: u32,
}

/// Returns a random text that may be too long for a name, or contain a zero byte.
fn any_text(rng: &mut Random) -> String {
    let length = rng.below(7);
    (0..length).map(|_| ['a', 'b', 'é', '\0', '\u{10ffff}'][rng.below(5) as usize]).collect()
}

/// Strings of any length bound the values of a `FixedStr` column as they do in a sorted list of
/// strings, alone and in a tuple, also in transactions and for external keys.
#[test]
fn bounds_of_any_text_match_strings() -> Outcome {
    let store = Store::in_memory()?;
    let mut rng = Random::seeded("bounds of any text");
    let mut all: Vec<City> = Vec::new();
    while all.len() < 120 {
        if let Ok(name) = any_text(&mut rng).parse() {
            all.push(City { id: all.len() as u64, name, size: rng.below(3) as u32 });
        }
    }
    all.sort_by(|a, b| (a.name.as_str(), a.size, a.id).cmp(&(b.name.as_str(), b.size, b.id)));
    let tx = store.begin_write()?;
    tx.table::<City>()?.extend(&all)?;
    let spots = all.iter().map(|city| (city.id.to_le_bytes(), Spot { name: city.name, size: city.size }));
    tx.external::<Spot>()?.extend(spots)?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let (cities, spots) = (snapshot.table::<City>()?, snapshot.external::<Spot>()?);
    for _ in 0..2000 {
        let (from, to) = (any_text(&mut rng), any_text(&mut rng));
        let (start, end) = (bound(rng.next(), &from[..]), bound(rng.next(), &to[..]));
        let wanted: Vec<City> = all
            .iter()
            .filter(|city| RangeBounds::<str>::contains(&(start, end), city.name.as_str()))
            .copied()
            .collect();
        let by_name = cities.by(City::NAME);
        let found = by_name.range((start, end))?.map(|city| Ok(*city?)).collect::<Outcome<Vec<_>>>()?;
        assert_eq!(found, wanted, "{start:?} {end:?}");
        assert_eq!(by_name.count((start, end))?, wanted.len() as u64);
        assert_eq!(spots.by(Spot::NAME).count((start, end))?, wanted.len() as u64);
        assert_eq!(spots.by(Spot::NAME).range((start, end))?.count(), wanted.len());

        let size = rng.below(3) as u32;
        let pairs = (start.map(|text| (text, size)), end.map(|text| (text, size)));
        let within = |city: &&City| pairs.contains(&(city.name.as_str(), city.size));
        let wanted: Vec<City> = all.iter().filter(within).copied().collect();
        let by_both = cities.by((City::NAME, City::SIZE));
        let found = by_both.range(pairs)?.map(|city| Ok(*city?)).collect::<Outcome<Vec<_>>>()?;
        assert_eq!(found, wanted, "{pairs:?}");
    }
    // Ranges of each kind.
    let count =
        |keep: &dyn Fn(&str) -> bool| all.iter().filter(|city| keep(city.name.as_str())).count() as u64;
    let by_name = cities.by(City::NAME);
    assert_eq!(by_name.count("a".."b")?, count(&|name| ("a".."b").contains(&name)));
    assert_eq!(by_name.count("a"..="bbbbbbbb")?, count(&|name| ("a"..="bbbbbbbb").contains(&name)));
    assert_eq!(by_name.count("aaaaaaaa"..)?, count(&|name| name >= "aaaaaaaa"));
    assert_eq!(by_name.count(..="b")?, count(&|name| name <= "b"));
    assert_eq!(by_name.count(.."b")?, count(&|name| name < "b"));
    assert_eq!(by_name.count(..)?, all.len() as u64);
    let (from, to): (FixedStr<4>, FixedStr<4>) = ("a".parse()?, "b".parse()?);
    assert_eq!(by_name.count(from..to)?, by_name.count(&from..&to)?);
    assert_eq!(by_name.count(from..to)?, by_name.count("a".."b")?);

    // Changes by the same bounds, some of them of this transaction's own rows.
    let tx = store.begin_write()?;
    let mut cities = tx.table::<City>()?;
    cities.put(&City { id: 1000, name: "aé".parse()?, size: 0 })?;
    let below = |cities: &TableMut<'_, City>| cities.by(City::NAME)?.count("a".."aé and more");
    let expected = below(&cities)?;
    assert!(expected > 1);
    assert_eq!(cities.by_mut(City::NAME).modify("a".."aé and more", |city| city.size = 9)?, expected);
    let sized = cities.by((City::NAME, City::SIZE))?;
    assert_eq!(sized.count(("a", 9)..("aé and more", 0))?, expected);
    let taken =
        cities.by_mut(City::NAME).extract_if("a".."aé and more", |city| city.id >= 60)?.count() as u64;
    assert_eq!(cities.by_mut(City::NAME).delete_range("a".."aé and more")?, expected - taken);
    assert_eq!(below(&cities)?, 0);
    Ok(())
}

/// A range whose start is after its end is empty for every method that takes one.
#[test]
#[allow(clippy::reversed_empty_ranges, reason = "these are the ranges to be tested")]
fn reversed_ranges_are_empty() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut cities = tx.table::<City>()?;
    cities.extend((0..10).map(|id| City { id, name: FixedStr::EMPTY, size: id as u32 }))?;
    let mut spots = tx.external::<Spot>()?;
    spots.extend(["a", "b", "c"].map(|key| (key, Spot { name: FixedStr::EMPTY, size: 1 })))?;
    assert_eq!((cities.range(5..3)?.count(), cities.count(5..=3)?), (0, 0));
    assert_eq!((cities.range(5..3)?.rev().count(), cities.range(5..3)?.entries().count()), (0, 0));
    assert!(cities.range(5..3)?.cursor()?.is_none() && cities.range(5..3)?.cursor_back().is_none());
    let by_both = cities.by((City::NAME, City::SIZE))?;
    assert_eq!((by_both.range(("", 5)..("", 3))?.count(), by_both.count(("b", 0)..("a", 0))?), (0, 0));
    assert_eq!(cities.by(City::NAME)?.count("bbbbbbbb".."aaaaaaaa")?, 0);
    assert_eq!(cities.filter(City::SIZE.between(5..3))?.count(), 0);
    assert_eq!(cities.delete_range(5..3)?, 0);
    assert_eq!(cities.modify(5..3, |_| unreachable!("no row is in the range"))?, 0);
    assert_eq!(cities.retain_in(5..3, |_| false)?, 0);
    assert_eq!(cities.extract_if(5..3, |_| true)?.count(), 0);
    assert_eq!(cities.by_mut(City::NAME).delete_range("b".."a")?, 0);
    assert_eq!((spots.range("b".."a")?.count(), spots.count("b"..="a")?), (0, 0));
    assert_eq!(spots.by(Spot::NAME)?.count("b".."a")?, 0);
    assert_eq!((spots.delete_range("b".."a")?, spots.modify("c".."a", |_| ())?), (0, 0));
    assert_eq!(spots.extract_if("b".."a", |_, _| true)?.count(), 0);
    assert_eq!((cities.len()?, spots.len()?), (10, 3));
    drop((cities, spots));
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let cities = snapshot.table::<City>()?;
    let mut page = cities.range(..)?;
    assert!(page.next().is_some());
    let cursor = page.cursor()?.ok_or("a row was returned")?;
    assert_eq!((cities.range(5..3)?.count(), cities.count(5..3)?), (0, 0));
    assert_eq!(cities.range(5..3)?.start_after(&cursor)?.count(), 0);
    assert_eq!(cities.range(5..3)?.end_before(&cursor)?.count(), 0);
    assert_eq!(snapshot.external::<Spot>()?.range("b".."a")?.start_after(&cursor)?.count(), 0);
    Ok(())
}
