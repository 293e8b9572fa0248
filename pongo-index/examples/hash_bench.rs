//! Measures the hash index on real files, in nanoseconds per operation. It uses random hashes and
//! compares rows of 64 bytes.
//!
//! `cargo run --release -p pongo-index --example hash_bench [folder]`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pongo_core::ids::RowId;
use pongo_core::storage::{RealStorage, Storage};
use pongo_index::{Candidate, HashIndex, IndexIdentity, KeyHasher};

const IDENTITY: IndexIdentity = IndexIdentity { store: 1, table: 2 };

/// A row of the size used in the performance figures. The hash is used as the key.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Row {
    hash: u64,
    rest: [u64; 7],
}

struct Rows(Vec<Row>);

impl KeyHasher for Rows {
    fn hash(&self, row: RowId) -> u64 {
        self.0.get(row.0 as usize).map_or(0, |row| row.hash)
    }
}

/// Returns the SplitMix64 hash of a number. No two numbers have the same hash.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn timed(what: &str, n: usize, f: impl FnOnce()) {
    let start = Instant::now();
    f();
    println!("  {what:<34} {:7.1} ns", start.elapsed().as_nanos() as f64 / n as f64);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("pongo-hash-bench"), Into::into);
    let _ = std::fs::remove_dir_all(&folder);
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::create(&folder)?);
    for n in [100_000_usize, 2_000_000, 10_000_000] {
        println!("{n} entries");
        let rows = Rows((0..n as u64).map(|i| Row { hash: mix(i), rest: [i; 7] }).collect());
        let pairs: Vec<_> = rows.0.iter().enumerate().map(|(i, row)| (row.hash, RowId(i as u64))).collect();
        let hashes: Vec<u64> = rows.0.iter().map(|row| row.hash).collect();

        let one = HashIndex::create(&storage, "hash/one", IDENTITY, 0)?;
        timed("reserve + insert, one at a time", n, || {
            for &(hash, row) in &pairs {
                one.reserve(&[hash], &rows).unwrap();
                one.insert(hash, row).unwrap();
            }
        });
        drop(one);
        let bulk = HashIndex::create(&storage, "hash/bulk", IDENTITY, 0)?;
        timed("reserve, from empty", n, || bulk.reserve(&hashes, &rows).unwrap());
        timed("insert_bulk", n, || bulk.insert_bulk(&pairs).unwrap());
        let sized = HashIndex::create(&storage, "hash/sized", IDENTITY, n as u64)?;
        timed("reserve, presized", n, || sized.reserve(&hashes, &rows).unwrap());
        timed("insert_bulk, presized", n, || sized.insert_bulk(&pairs).unwrap());
        drop(sized);
        let entries = pairs.iter().map(|&(hash, row)| (hash, Candidate { row, deleted: false }));
        timed("rebuild", n, || {
            HashIndex::rebuild(&storage, "hash/sized", IDENTITY, n as u64, &rows, entries).unwrap();
        });

        let asked: Vec<u64> = (0..n as u64).map(|i| rows.0[(mix(!i) % n as u64) as usize].hash).collect();
        let get = |hash: u64| {
            let row = |c: Candidate| rows.0.get(c.row.0 as usize).filter(|row| row.hash == hash);
            bulk.find(hash, row).unwrap()
        };
        timed("hit", n, || {
            for &hash in &asked {
                assert!(black_box(get(hash)).is_some_and(|row| row.rest[0] < n as u64));
            }
        });
        let absent: Vec<u64> = (0..n as u64).map(|i| mix(i + n as u64)).collect();
        timed("miss", n, || {
            for &hash in &absent {
                assert!(black_box(get(hash)).is_none());
            }
        });
        timed("hit, 16 prefetched", n, || {
            for group in asked.chunks(16) {
                group.iter().for_each(|&hash| bulk.prefetch(hash));
                for &hash in group {
                    assert!(black_box(get(hash)).is_some());
                }
            }
        });
        timed("rows alone, place known", n, || {
            for i in 0..n as u64 {
                let row = &rows.0[(mix(!i) % n as u64) as usize];
                assert!(black_box(row).rest[0] < n as u64);
            }
        });
        timed("sync", n, || bulk.sync(1).unwrap());
        timed("open", 1, || drop(HashIndex::open(&storage, "hash/bulk", IDENTITY).unwrap()));
        timed("recover", 1, || bulk.recover().unwrap());
        println!("  {:?}", bulk.stats()?);
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
