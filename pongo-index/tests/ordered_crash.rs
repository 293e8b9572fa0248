//! Power cuts at every step of a merge. A store that is opened afterwards contains the old version
//! or the new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pongo_index::ordered::{
    Block, BlockStore, IndexId, MemoryBlocks, OrderedError, OrderedStore, Rewrite, StoreError, Watermark,
};

mod ordered;

use ordered::{Model, Rows, Shape, all, check, grow, merge, model_of};
use pongo_test_support::Random;

/// A write that is not durable yet.
#[derive(Clone, Debug)]
enum Step {
    Put(u64, Vec<u8>),
    Remove(u64),
    Name(Vec<u8>, Vec<u8>),
}

/// A block store that loses any subset of the unsynced writes in a power cut. Clones share one
/// disk.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The state that reads see.
    seen: MemoryBlocks,
    durable: Vec<Step>,
    waiting: Vec<Step>,
    /// Number of steps until the power cut.
    left: Option<u64>,
    off: bool,
}

fn off() -> StoreError {
    StoreError::Closed { path: "the power is off".into() }
}

fn apply(to: &MemoryBlocks, step: &Step) {
    match step {
        Step::Put(number, bytes) => to.put(vec![(*number, bytes.clone())]),
        Step::Remove(number) => to.remove(&[*number]),
        Step::Name(name, value) => to.put_named(name, value),
    }
    .unwrap();
}

impl State {
    fn step(&mut self, step: Step) -> Result<(), StoreError> {
        self.tick()?;
        apply(&self.seen, &step);
        self.waiting.push(step);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        if let Some(left) = &mut self.left {
            self.off |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.off { Err(off()) } else { Ok(()) }
    }
}

impl Disk {
    fn cut_after(&self, steps: u64) {
        self.0.lock().unwrap().left = Some(steps);
    }

    /// Returns the disk after the power cut: all synced writes and any subset of the others.
    fn after_the_cut(&self, random: &mut Random) -> Disk {
        let state = self.0.lock().unwrap();
        let mut durable = state.durable.clone();
        let keep = random.below(3);
        durable
            .extend(state.waiting.iter().filter(|_| keep == 1 || keep == 2 && random.below(2) == 0).cloned());
        let seen = MemoryBlocks::default();
        durable.iter().for_each(|step| apply(&seen, step));
        Disk(Arc::new(Mutex::new(State { seen, durable, ..State::default() })))
    }

    fn count(&self) -> u64 {
        self.0.lock().unwrap().seen.numbers(0).unwrap().len() as u64
    }
}

impl BlockStore for Disk {
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError> {
        let state = self.0.lock().unwrap();
        if state.off { Err(off()) } else { state.seen.get(number) }
    }

    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        blocks.into_iter().try_for_each(|(number, bytes)| state.step(Step::Put(number, bytes)))
    }

    fn remove(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        numbers.iter().try_for_each(|&number| state.step(Step::Remove(number)))
    }

    fn numbers(&self, from: u64) -> Result<Vec<u64>, StoreError> {
        self.0.lock().unwrap().seen.numbers(from)
    }

    fn get_named(&self, name: &[u8]) -> Result<Option<Block>, StoreError> {
        self.0.lock().unwrap().seen.get_named(name)
    }

    fn put_named(&self, name: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.lock().unwrap().step(Step::Name(name.to_vec(), value.to_vec()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        state.tick()?;
        let waiting = std::mem::take(&mut state.waiting);
        state.durable.extend(waiting);
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn forget(&self) {}
}

fn open(disk: &Disk) -> OrderedStore {
    OrderedStore::open(Box::new(disk.clone())).unwrap()
}

/// Asserts that the store contains no block that no version refers to.
fn nothing_is_left_over(store: &OrderedStore, disk: &Disk) {
    let stats = store.stats().unwrap();
    assert_eq!(disk.count(), stats.blocks + stats.parts, "{stats:?}");
}

#[test]
fn cut_leaves_old_or_new_version() {
    let mut random = Random::seeded("cut_leaves_old_or_new_version");
    let disk = Disk::default();
    let mut rows = Rows::default();
    let other = grow(&mut random, Shape::Few, &mut rows, 300);
    let run = grow(&mut random, Shape::Random16, &mut rows, 9000);
    let mut old = model_of(&run);
    {
        let store = open(&disk);
        merge(&store, 2, 1, &other, &rows).unwrap();
        merge(&store, 1, 1, &run, &rows).unwrap();
    }
    let (mut seen_old, mut seen_new) = (0, 0);
    let mut disk = disk.after_the_cut(&mut random);
    for steps in 0..60 {
        let more = grow(&mut random, Shape::Random16, &mut rows, if steps % 3 == 0 { 3 } else { 1500 });
        let mut new: Model = old.clone();
        new.append(&mut model_of(&more));
        let store = open(&disk);
        disk.cut_after(random.below(45));
        // A reader that holds the old version keeps its blocks from being deleted.
        let held = store.index(IndexId(1)).unwrap().unwrap();
        let merged = merge(&store, 1, 2 + steps, &more, &rows);
        if let Err(error) = &merged {
            assert!(matches!(error, OrderedError::Store(_)), "{error}");
            let again = merge(&store, 1, 2 + steps, &more, &rows);
            assert!(matches!(again, Err(OrderedError::Poisoned { .. }) | Err(OrderedError::Store(_))));
        }
        drop(held);
        let _ = store.tidy();
        drop(store);
        disk = disk.after_the_cut(&mut random);
        let store = open(&disk);
        let sorted = store.index(IndexId(1)).unwrap().unwrap();
        let is_new = sorted.watermark().row == 2 + steps;
        assert!(is_new || merged.is_err(), "a merge that ended is durable");
        old = if is_new { new } else { old };
        (seen_old, seen_new) = (seen_old + u64::from(!is_new), seen_new + u64::from(is_new));
        check(&sorted, &old, &rows, 5, &mut random);
        check(&store.index(IndexId(2)).unwrap().unwrap(), &model_of(&other), &rows, 2, &mut random);
        nothing_is_left_over(&store, &disk);
    }
    println!("{seen_old} times the old version, {seen_new} times the new one");
    assert!(seen_old > 3 && seen_new > 3);
}

/// Cuts the power at each step of one merge, each time with different subsets of the unsynced
/// writes. A root that became durable before its blocks would refer to missing blocks.
#[test]
fn each_step_of_a_merge() {
    let mut random = Random::seeded("each_step_of_a_merge");
    let (mut rows, before) = (Rows::default(), Disk::default());
    let run = grow(&mut random, Shape::Random16, &mut rows, 3000);
    let old = model_of(&run);
    merge(&open(&before), 1, 1, &run, &rows).unwrap();
    let more = grow(&mut random, Shape::Random16, &mut rows, 3);
    let mut new = old.clone();
    new.append(&mut model_of(&more));
    for steps in 0.. {
        let mut ended = false;
        for _ in 0..16 {
            let disk = before.after_the_cut(&mut random);
            disk.cut_after(steps);
            ended = merge(&open(&disk), 1, 2, &more, &rows).is_ok();
            let store = open(&disk.after_the_cut(&mut random));
            let sorted = store.index(IndexId(1)).unwrap().unwrap();
            let is_new = sorted.watermark().row == 2;
            assert!(is_new || !ended, "a merge that ended is durable");
            check(&sorted, if is_new { &new } else { &old }, &rows, 1, &mut random);
        }
        if ended {
            assert!(steps > 3, "{steps} steps are too few for a merge");
            return;
        }
    }
}

#[test]
fn no_blocks_are_leaked() {
    let mut random = Random::seeded("no_blocks_are_leaked");
    let disk = Disk::default();
    let store = open(&disk);
    let mut rows = Rows::default();
    let mut model = Model::new();
    let mut held = Vec::new();
    for round in 0..8 {
        let run = grow(&mut random, Shape::Random16, &mut rows, 2000);
        let stop = AtomicBool::new(round % 3 == 1);
        let watermark = Watermark::default();
        let merged = store.merge(IndexId(1), watermark, &run, &rows, &|_| false, Rewrite::Touched, &stop);
        assert_eq!(merged.is_err(), stop.load(Ordering::Relaxed) && round > 0);
        if let Ok(sorted) = merged {
            model.append(&mut model_of(&run));
            held.push((sorted, model.clone()));
        }
    }
    assert!(store.stats().unwrap().retired > 0);
    for (sorted, model) in &held {
        check(sorted, model, &rows, 3, &mut random);
    }
    // The oldest version in use keeps what later versions retired; the newest keeps only itself.
    held.drain(..held.len() - 1);
    store.tidy().unwrap();
    nothing_is_left_over(&store, &disk);
    store.remove(IndexId(1)).unwrap();
    let (last, model) = held.pop().unwrap();
    check(&last, &model, &rows, 3, &mut random);
    drop(last);
    store.tidy().unwrap();
    assert_eq!(disk.count(), 0);
}

#[test]
fn lost_or_swapped_block_is_detected() {
    let mut random = Random::seeded("lost_or_swapped_block_is_detected");
    let disk = Disk::default();
    let mut rows = Rows::default();
    let run = grow(&mut random, Shape::Random16, &mut rows, 9000);
    let model: Vec<u64> = run.iter().map(|(_, row)| row.0).collect();
    merge(&open(&disk), 1, 1, &run, &rows).unwrap();
    let numbers = disk.numbers(0).unwrap();
    assert!(numbers.len() > 9);
    for &number in &numbers {
        for kind in 0..3 {
            let disk = disk.after_the_cut(&mut random);
            let other =
                numbers[(random.below(numbers.len() as u64 - 1) + number + 1) as usize % numbers.len()];
            match kind {
                0 => disk.remove(&[number]).unwrap(),
                1 => {
                    let bytes = disk.get(other).unwrap().unwrap().as_ref().to_vec();
                    disk.put(vec![(number, bytes)]).unwrap();
                }
                _ => {
                    let mut bytes = disk.get(number).unwrap().unwrap().as_ref().to_vec();
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                    disk.put(vec![(number, bytes)]).unwrap();
                }
            }
            let store = open(&disk);
            let read = store.index(IndexId(1)).and_then(|sorted| {
                all(&sorted.expect("the root exists"), &rows, random.below(2) == 0, &mut random)
            });
            assert!(
                matches!(read, Err(OrderedError::Damaged { .. })),
                "block {number}, {other}, kind {kind}"
            );
            // All rows that can still be read are correct.
            if let Ok(Some(sorted)) = store.index(IndexId(1)) {
                let mut cursor = sorted.forward(pongo_index::ordered::Edge::Start, &rows).unwrap();
                let mut out = Vec::new();
                while let Ok(true) = cursor.fill(&mut out, 100) {}
                assert!(out.iter().zip(&model).all(|(row, expected)| row.0 == *expected));
            }
        }
    }
}

/// Cuts the power during a first merge. The roots are written before the blocks, because blocks
/// without roots are reported as damage.
#[test]
fn interrupted_first_merge_is_no_damage() {
    let mut random = Random::seeded("interrupted_first_merge_is_no_damage");
    let mut rows = Rows::default();
    let run = grow(&mut random, Shape::Random16, &mut rows, 3000);
    for steps in 0..60 {
        let disk = Disk::default();
        disk.cut_after(steps);
        let made = OrderedStore::open(Box::new(disk.clone()));
        let merged = made.is_ok_and(|store| merge(&store, 1, 1, &run, &rows).is_ok());
        for _ in 0..6 {
            let after = disk.after_the_cut(&mut random);
            let store = OrderedStore::open(Box::new(after.clone()))
                .unwrap_or_else(|error| panic!("{steps}: {error}"));
            assert!(!merged || store.indexes() == [IndexId(1)]);
            if let Some(sorted) = store.index(IndexId(1)).unwrap() {
                assert_eq!(all(&sorted, &rows, true, &mut random).unwrap().len(), 3000);
            }
            nothing_is_left_over(&store, &after);
        }
    }
}
