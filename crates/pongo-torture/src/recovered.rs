//! The bytes that every recovery of the same image must come to, however often it was interrupted, read from the files as
//! `docs/FORMAT.md` describes them and not by the code under test.
//!
//! These are the rows and the heap below their lengths, all marks, and the schemas. What may differ, because a recovery
//! that was interrupted left traces: the journal's segments, salts and positions, and with them `super` and `control`; the
//! epochs of the hash indexes; bytes and whole chunks above the lengths.

use std::collections::BTreeMap;

use pongo_sim::Image;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The newest commit.
    pub seq: u64,
    /// Rows and live rows of each table.
    pub tables: Vec<(u64, u64)>,
    /// Bytes of rows by table.
    pub rows: BTreeMap<u64, Vec<u8>>,
    /// Bytes of the heap.
    pub heap: Vec<u8>,
    /// Marks that are not zero: table and row, `Seq` of the death, previous row + 1.
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
    /// Reads the image of a store that is open, and whose newest state `control` names.
    ///
    /// # Panics
    /// If the files are not those of such a store.
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
                // Of a table that was never committed: nobody's.
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
            let (died, previous) = (word(bytes, PAGE + 8 * row), word(bytes, PAGE + 8 * (words + row)));
            if (died, previous) != (0, 0) {
                self.marks.insert((table, first + row), (died, previous));
            }
        }
    }

    /// Compares two.
    ///
    /// # Errors
    /// What differs.
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
