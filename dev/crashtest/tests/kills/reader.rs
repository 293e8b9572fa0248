//! A process that reads snapshots until it is killed, and keeps some of them.
//!
//! It prints these lines:
//!
//! - `reading`
//! - `saw S D`: `Seq` of a snapshot and digest of the world that it shows
//! - `now S`: answer to a line on stdin, with the `Seq` of a snapshot that was taken after it
//! - `kept N`: kept snapshots were read again N times and had not changed
//! - `failed WHAT` and `wrong WHAT`

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pongo::prelude::*;
use pongo_sim::Random;

use crate::live::Outcome;
use crate::live::history::digest;
use crate::live::process::say;
use crate::live::writer::{looked, open, shown};

/// Parameters of a reader.
pub(crate) struct Orders {
    pub(crate) seed: u64,
    pub(crate) ordered: bool,
    pub(crate) path: String,
}

impl Orders {
    pub(crate) fn role(&self) -> String {
        let Self { seed, ordered, path } = self;
        format!("read {seed} {ordered} {path}")
    }

    /// Parses the words after `read`.
    pub(crate) fn read(words: &str) -> Outcome<Self> {
        let mut words = words.splitn(3, ' ');
        let mut word = || words.next().ok_or("a word is missing");
        Ok(Self { seed: word()?.parse()?, ordered: word()?.parse()?, path: word()?.to_owned() })
    }
}

/// Number of snapshots that are kept.
const KEPT: usize = 3;

fn read(orders: &Orders, asked: &AtomicU64) -> Outcome {
    let mut random = Random(orders.seed);
    let store = open(Path::new(&orders.path), orders.ordered)?;
    say("reading");
    let (mut last, mut answered, mut again) = (0, 0, 0u64);
    let mut kept: VecDeque<(Snapshot, u64)> = VecDeque::new();
    loop {
        let questions = asked.load(Ordering::Acquire);
        let snapshot = store.begin_read()?;
        let seq = snapshot.seq().0;
        if questions > answered {
            answered = questions;
            say(&format!("now {seq}"));
        }
        if seq < last {
            say(&format!("wrong snapshot {seq} after {last}"));
        }
        if seq > last || random.one_in(20) {
            let world = shown(&snapshot)?;
            let found = digest(&world);
            say(&format!("saw {seq} {found}"));
            if random.one_in(4) {
                looked(&snapshot, &world)?;
            }
            if random.one_in(3) {
                kept.push_back((snapshot, found));
            }
        }
        last = last.max(seq);
        if let Some((snapshot, before)) = kept.get(random.below(6) as usize) {
            let world = shown(snapshot)?;
            if digest(&world) != *before {
                say(&format!("wrong a kept snapshot of {} is another now", snapshot.seq()));
            }
            if random.one_in(8) {
                looked(snapshot, &world)?;
            }
            again += 1;
            if again.is_multiple_of(50) {
                say("kept 50");
            }
        }
        if kept.len() > KEPT {
            let place = random.below(kept.len() as u64) as usize;
            kept.remove(place);
        }
        std::thread::sleep(Duration::from_micros(500 + random.below(3000)));
    }
}

/// Runs a reader until the process is killed.
pub(crate) fn live(orders: &Orders) -> Outcome {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            count.fetch_add(1, Ordering::Release);
        }
    });
    if let Err(error) = read(orders, &asked) {
        say(&format!("failed {}", error.to_string().replace('\n', " ")));
    }
    loop {
        std::thread::park();
    }
}
