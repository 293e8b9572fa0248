//! Models of the shared state in `control`: publishing and reading, pins and the horizon. See
//! `docs/design/testing.md`.
//!
//! Under `--cfg loom` the ring has two records and a process has two pins, one of them shared, so
//! that a few publications reuse each record and two readers use the shared pin. Everything else is
//! as in a real store.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Ghost;

use crate::control::{Control, Entered};
use crate::ids::{JournalPos, Salt, Seq};
use crate::snapshot_tracker::SnapshotTracker;
use crate::state::{HeapState, StoreState, TableState};
use crate::storage::MemoryStorage;
use crate::sync::{Access, Ordering, Plain, model, threads, with_orders, without_each};

fn control() -> Arc<Control> {
    let storage = MemoryStorage::new();
    let control = Control::open(&storage).expect("memory");
    assert_eq!(control.register_process().expect("memory"), Entered::Solo);
    control.rebuild(1, None, Salt(1));
    control.mark_ready().expect("memory");
    Arc::new(control)
}

/// Creates a state in which `n` determines each word.
fn state(n: u64) -> StoreState {
    StoreState {
        seq: Seq(n),
        heap: HeapState { len: 10 * n, summed: 0 },
        segment: 0,
        journal_end: JournalPos(100 * n),
        tables: vec![],
    }
}

fn with_table(n: u64) -> StoreState {
    StoreState { tables: vec![TableState { len: 7 * n, live: 0, summed: 0 }], ..state(n) }
}

#[test]
fn loom_published_state_is_whole() {
    model("published", 3, || {
        let control = control();
        control.publish(&state(1));
        let reader = Arc::clone(&control);
        threads([
            Box::new(move || (2..=3).for_each(|n| control.publish(&state(n)))),
            Box::new(move || {
                let (number, found) = reader.published();
                assert_eq!(found, state(number), "the state is torn");
            }),
        ]);
    });
}

#[test]
fn loom_published_state_never_goes_back() {
    model("published twice", 2, || {
        let control = control();
        control.publish(&state(1));
        let reader = Arc::clone(&control);
        threads([
            Box::new(move || control.publish(&state(2))),
            Box::new(move || {
                let (first, before) = reader.published();
                let (second, after) = reader.published();
                assert!(first <= second, "{second} was published before {first}");
                assert_eq!((before, after), (state(first), state(second)), "a state is torn");
            }),
        ]);
    });
}

#[test]
fn loom_published_tables_match_their_count() {
    model("published with tables", 1, || {
        let control = control();
        control.publish(&state(1));
        let reader = Arc::clone(&control);
        threads([
            Box::new(move || (2..=3).for_each(|n| control.publish(&with_table(n)))),
            Box::new(move || {
                let (number, found) = reader.published();
                let expected = if number == 1 { state(1) } else { with_table(number) };
                assert_eq!(found, expected, "the state is torn");
            }),
        ]);
    });
}

#[test]
fn loom_counter_publishes_earlier_stores() {
    model("published counter", 3, || {
        let control = control();
        // Holds no data: loom checks that reads and writes are ordered.
        let row = Arc::new(Plain::new());
        let (reader, same_row) = (Arc::clone(&control), Arc::clone(&row));
        threads([
            Box::new(move || {
                row.write();
                control.publish(&state(1));
            }),
            Box::new(move || {
                if reader.published().1.seq == Seq(1) {
                    same_row.read();
                }
            }),
        ]);
    });
}

/// Rows, each of which is deleted by the commit after its number: snapshots up to that number read
/// it. It is reclaimed once no such snapshot exists or can start. The rows hold no data: loom
/// checks that reads and the reclamation are ordered.
struct Rows {
    rows: [Plain; 4],
    /// The highest `Seq` for which rows were reclaimed. Not part of the store, and not modelled by
    /// loom: every thread sees it at once.
    oldest_visible_seq: Ghost,
}

impl Rows {
    fn new() -> Arc<Rows> {
        Arc::new(Rows { rows: std::array::from_fn(|_| Plain::new()), oldest_visible_seq: Ghost::new(0) })
    }

    /// Reclaims each row that only a snapshot below `oldest_visible_seq` could see.
    fn give_up(&self, oldest_visible_seq: Seq) {
        let from = self.oldest_visible_seq.fetch_max(oldest_visible_seq.0, Ordering::Relaxed);
        for n in from..oldest_visible_seq.0 {
            self.rows[n as usize].write();
        }
    }

    fn read(&self, seq: Seq) {
        let oldest_visible_seq = self.oldest_visible_seq.load(Ordering::Relaxed);
        assert!(
            oldest_visible_seq <= seq.0,
            "{} is pinned, rows deleted up to {oldest_visible_seq} were removed",
            seq.0
        );
        self.rows[seq.0 as usize].read();
    }
}

/// Reads the newest state, as `Engine::begin_read` and the end of a snapshot do.
fn read(control: &Control, pins: &SnapshotTracker, rows: &Rows) {
    let (state, pin) = pins.pin_newest(|| control.published().1, |state| state.seq);
    rows.read(state.seq);
    pins.unpin(&pin);
}

#[test]
fn loom_pinned_rows_are_not_reclaimed() {
    model("pin and reclaim", 2, || {
        let control = control();
        let pins = SnapshotTracker::new(&control).expect("there is a group");
        let rows = Rows::new();
        control.publish(&state(1));
        let (reader, same_rows) = (Arc::clone(&control), Arc::clone(&rows));
        threads([
            Box::new(move || {
                control.publish(&state(2));
                rows.give_up(control.oldest_visible_seq());
                control.publish(&state(3));
                rows.give_up(control.oldest_visible_seq());
            }),
            Box::new(move || {
                read(&reader, &pins, &same_rows);
                read(&reader, &pins, &same_rows);
            }),
        ]);
    });
}

#[test]
fn loom_shared_pin_protects_rows() {
    model("shared pin and reclaim", 2, || {
        let control = control();
        let pins = Arc::new(SnapshotTracker::new(&control).expect("there is a group"));
        let rows = Rows::new();
        control.publish(&state(1));
        // Takes the one slot that is not shared.
        let newer = pins.pin(Seq(3));
        let reader = |control: &Arc<Control>| {
            let (control, pins, rows) = (Arc::clone(control), Arc::clone(&pins), Arc::clone(&rows));
            Box::new(move || read(&control, &pins, &rows)) as Box<dyn FnOnce() + Send>
        };
        let (first, second) = (reader(&control), reader(&control));
        threads([
            Box::new(move || {
                control.publish(&state(2));
                rows.give_up(control.oldest_visible_seq());
            }),
            first,
            second,
        ]);
        pins.unpin(&newer);
    });
}

#[test]
fn loom_horizon_never_goes_back() {
    model("two horizons", 2, || {
        let control = control();
        let pins = SnapshotTracker::new(&control).expect("there is a group");
        let rows = Rows::new();
        control.publish(&state(1));
        let (second, third) = (Arc::clone(&control), Arc::clone(&control));
        let (second_rows, third_rows) = (Arc::clone(&rows), Arc::clone(&rows));
        threads([
            Box::new(move || {
                control.publish(&state(2));
                rows.give_up(control.oldest_visible_seq());
            }),
            Box::new(move || {
                let oldest_visible_seq = second.oldest_visible_seq();
                assert!(oldest_visible_seq <= second.horizon(), "the horizon is below an answer");
                second_rows.give_up(oldest_visible_seq);
            }),
            Box::new(move || read(&third, &pins, &third_rows)),
        ]);
    });
}

#[test]
fn loom_each_control_fence_is_needed() {
    let models: [(_, fn()); 7] = [
        ("published counter", loom_counter_publishes_earlier_stores),
        ("published twice", loom_published_state_never_goes_back),
        ("published", loom_published_state_is_whole),
        ("two horizons", loom_horizon_never_goes_back),
        ("shared pin and reclaim", loom_shared_pin_protects_rows),
        ("pin and reclaim", loom_pinned_rows_are_not_reclaimed),
        ("published with tables", loom_published_tables_match_their_count),
    ];
    let tried = without_each(&models[..if with_orders() { models.len() } else { 3 }], |site| {
        site.file.contains("src/control/") && (site.what == Access::Fence || with_orders())
    });
    let fences = tried.iter().filter(|(site, _)| site.what == Access::Fence).count();
    assert_eq!(fences, 2, "the models pass both fences: {tried:?}");
    for (site, model) in tried {
        assert!(model.is_some(), "no model fails without {site:?}");
    }
}
