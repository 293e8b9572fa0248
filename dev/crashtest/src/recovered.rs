//! Bytes that every recovery of the same image must produce, even if it was interrupted before.
//! They are read from the files according to `docs/FORMAT.md`, not by the code under test.
//!
//! They comprise the rows and the heap below their lengths, all marks (row versions), and the
//! schemas. The following may differ, because an interrupted recovery leaves traces: the journal's
//! segments, salts and positions, and therefore `super` and `control`; the epochs of the hash
//! indexes; bytes and whole chunks above the lengths.

use std::collections::BTreeMap;

use pongo_sim::Image;

/// The recovered content of a store; see the module documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The newest commit.
    pub seq: u64,
    /// Number of rows and of live rows of each table.
    pub tables: Vec<(u64, u64)>,
    /// Bytes of the rows, by table.
    pub rows: BTreeMap<u64, Vec<u8>>,
    /// Bytes of the heap.
    pub heap: Vec<u8>,
    /// Nonzero marks: by table and row, the `Seq` of the deletion and the previous row + 1.
    pub marks: BTreeMap<(u64, u64), (u64, u64)>,
    /// Schema files.
    pub schemas: BTreeMap<String, Vec<u8>>,
}

fn word(bytes: &[u8], at: u64) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

const PAGE: u64 = 4096;
const HEAP: u64 = u64::MAX;

impl Recovered {
    /// Reads the image of an open store, whose newest state is in `control`.
    ///
    /// # Panics
    /// Panics if the files are not those of such a store.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let control = image.get("control").expect("a store that is open");
        let published = word(control, 8 * 9);
        let record = 8 * (4608 + published % 8 * 1024);
        let field = |at: u64| word(control, record + 8 * at);
        let tables: Vec<_> = (0..field(1)).map(|i| (field(8 + 3 * i), field(9 + 3 * i))).collect();
        let mut recovered = Self {
            seq: field(0),
            tables,
            rows: BTreeMap::new(),
            heap: Vec::new(),
            marks: BTreeMap::new(),
            schemas: BTreeMap::new(),
        };
        let mut chunks = BTreeMap::new();
        for (path, bytes) in image.files() {
            if path.starts_with("schema/") {
                recovered.schemas.insert(path.to_owned(), bytes.to_vec());
            } else if path.ends_with(".chunk") {
                chunks.insert((word(bytes, 32), word(bytes, 40)), bytes);
            } else if path.ends_with(".marks") {
                recovered.add_marks(bytes);
            }
        }
        for ((table, _), bytes) in chunks {
            let (len, row) = match table {
                HEAP => (field(2), 1),
                // Tables without a commit have no rows.
                _ => (recovered.tables.get(table as usize).map_or(0, |table| table.0), word(bytes, 64)),
            };
            let (start, here) = (word(bytes, 48), word(bytes, 56));
            let bytes = &bytes[PAGE as usize..][..(len * row).saturating_sub(start).min(here) as usize];
            let all =
                if table == HEAP { &mut recovered.heap } else { recovered.rows.entry(table).or_default() };
            all.extend_from_slice(bytes);
        }
        assert_eq!(recovered.heap.len() as u64, field(2), "chunks up to the heap's length");
        recovered.rows.retain(|_, bytes| !bytes.is_empty());
        recovered
    }

    fn add_marks(&mut self, bytes: &[u8]) {
        let (table, first, rows) = (word(bytes, 32), word(bytes, 48), word(bytes, 56));
        let words = rows.next_multiple_of(512);
        for row in 0..words {
            let (deleted_at, previous) = (word(bytes, PAGE + 8 * row), word(bytes, PAGE + 8 * (words + row)));
            if (deleted_at, previous) != (0, 0) {
                self.marks.insert((table, first + row), (deleted_at, previous));
            }
        }
    }

    /// Compares two recovered states.
    ///
    /// # Errors
    /// Returns the parts that differ.
    pub fn same(&self, other: &Self) -> Result<(), String> {
        let parts = [
            ("the newest commit", self.seq == other.seq),
            ("numbers of rows", self.tables == other.tables),
            ("bytes of rows", self.rows == other.rows),
            ("bytes of the heap", self.heap == other.heap),
            ("marks", self.marks == other.marks),
            ("schemas", self.schemas == other.schemas),
        ];
        let differing: Vec<_> = parts.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
        if differing.is_empty() {
            return Ok(());
        }
        let say = |one: &Self| format!("commit {}, tables {:?}, marks {:?}", one.seq, one.tables, one.marks);
        Err(format!("{} differ: {}\nand {}", differing.join(", "), say(self), say(other)))
    }
}
