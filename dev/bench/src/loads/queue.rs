//! A queue of a thousand waiting jobs; each cycle takes the first one by time and puts a new one.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pongo::prelude::*;

use super::{Tenths, open};

/// Number of jobs that wait at any time.
const WAITING: u64 = 1000;
/// Cycles of each tenth that are committed with `Sync`.
const SYNCED: u64 = 300;

#[pongo::record]
#[pongo(table = "jobs")]
struct Job {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    at: i64,
    work: [u64; 4],
}

fn job(id: u64) -> Job {
    Job { id, at: 1_700_000_000 + id as i64, work: [id; 4] }
}

pub(super) fn run(jobs: u64, dir: &Path) -> Result<()> {
    let store = open(Options::new(), dir)?;
    let tx = store.begin_write()?;
    tx.table::<Job>()?.extend((0..WAITING).map(job))?;
    tx.commit()?;
    let mut tenths = Tenths::new(
        format!("queue of {WAITING} jobs, {jobs} in all"),
        &[
            ("first by key", 1.25),
            ("first by time", 1.25),
            ("range of 100", 1.25),
            ("Relaxed", 1.6),
            ("Sync", 1.25),
        ],
    );
    let mut next = WAITING;
    for tenth in 0..10 {
        tenths.begin();
        let end = jobs * (tenth + 1) / 10;
        while next < end {
            let synced = end - next <= SYNCED;
            let (column, durability) = if synced { (4, Durability::Sync) } else { (3, Durability::Relaxed) };
            tenths.time(column, || {
                let first = {
                    let snapshot = store.begin_read()?;
                    let jobs = snapshot.table::<Job>()?;
                    jobs.by(Job::AT).first()?.context("jobs wait")?.id
                };
                ensure!(first == next - WAITING, "job {first} is the first, {} should be", next - WAITING);
                let tx = store.begin_write_with(durability)?;
                let mut jobs = tx.table::<Job>()?;
                ensure!(jobs.delete(first)?, "job {first} exists");
                jobs.put(&job(next))?;
                drop(jobs);
                tx.commit()?;
                Ok(())
            })?;
            next += 1;
            if next.is_multiple_of(97) {
                let snapshot = store.begin_read()?;
                let jobs = snapshot.table::<Job>()?;
                let by_key = tenths.time(0, || Ok(jobs.first()?.map(|job| job.id)))?;
                let by_time = tenths.time(1, || Ok(jobs.by(Job::AT).first()?.map(|job| job.id)))?;
                ensure!(by_key == by_time && by_key == Some(next - WAITING));
                let middle = next - WAITING / 2;
                let found = tenths.time(2, || Ok(jobs.range(middle..middle + 100)?.count_rows()?))?;
                ensure!(found == 100);
            }
        }
    }
    tenths.print();
    println!("{}", store.stats()?);
    store.close()?;
    Ok(())
}
