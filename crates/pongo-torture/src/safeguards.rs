//! The list of all safeguards of the store, with name and purpose. A test (`tests/safeguards.rs`)
//! compares the list with the source: no name is missing or used at two places, and every sync,
//! comparison, fence and pin has one. `pongo_core::guard` documents how a safeguard is disabled;
//! `src/bin/removed.rs` disables each in turn.

/// How a safeguard works, which determines the kind of test that detects its absence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `fdatasync` of a file: a power cut detects its absence.
    Sync,
    /// `fsync` of a folder: a power cut detects its absence.
    Folder,
    /// Data read is compared with a checksum or an expected value: corruption or a torn write
    /// detects its absence.
    Comparison,
    /// An order of loads and stores: a model checker that tries all orders detects its absence.
    Fence,
    /// Space is allocated before a store that could not report a full disk, or holes are not
    /// queried where the result may be wrong: tests on real file systems detect its absence.
    Space,
    /// Data in use is protected against reuse of its space: tests with several processes or threads
    /// detect its absence.
    Pin,
}

/// One safeguard.
#[derive(Clone, Copy, Debug)]
pub struct Safeguard {
    /// Name: its location, and the protected data.
    pub name: &'static str,
    /// How it works.
    pub kind: Kind,
    /// Its purpose.
    pub purpose: &'static str,
}

const fn sync(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Sync, purpose }
}

const fn folder(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Folder, purpose }
}

const fn comparison(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Comparison, purpose }
}

const fn fence(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Fence, purpose }
}

const fn space(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Space, purpose }
}

const fn pin(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: Kind::Pin, purpose }
}

/// All safeguards.
pub const ALL: &[Safeguard] = &[
    // Creation of a store and its tables.
    folder("create.folder", "the folders of a new store have durable names"),
    sync("create.journal.sync", "the first checkpoint is on disk before `super` names it"),
    sync("super.create.sync", "`super` has its content before it gets its name"),
    sync("schema.sync", "a schema has its content before it gets its name"),
    folder("schema.folder", "a table that was committed has a schema"),
    folder("table.folder", "a table that was committed has a folder"),
    folder("table.clear.folder", "what a lost table of that name left does not come back"),
    folder(
        "table.folder.above",
        "the folders of schemas and tables have durable names, whoever made them again",
    ),
    // Space (docs/design/full-disk.md).
    space("space.nocow", "files on btrfs are written in place, so that their space can be set aside"),
    space("space.unshare", "blocks that a copy of a file on xfs shares are not counted as set aside"),
    space(
        "space.writable",
        "a page in a snapshot takes its new space before a store, which would be a signal",
    ),
    space("space.room", "rows are filled in memory where stores to a map may need space"),
    space("space.control", "the first store to `control` has its space"),
    space("space.holes", "a hole is believed only where the page cache is asked too"),
    space("ordered.holes.sync", "what sled wrote and is in memory only is not taken for holes"),
    // Chunks.
    sync("chunk.settle.sync", "a chunk has its header before it gets its name"),
    folder("chunk.settle.folder", "rows that were committed lie in a chunk with a durable name"),
    folder(
        "chunk.settle.above",
        "the first chunk of a folder lies in one with a durable name, whoever made it again",
    ),
    sync("cited.rows.sync", "rows that an entry only cites are on disk before it"),
    sync("cited.heap.sync", "heap bytes that an entry only cites are on disk before it"),
    comparison("chunk.header.checksum", "a chunk's header did not rot"),
    comparison("chunk.header.identity", "a chunk belongs to this store, table, layout and place"),
    comparison("block.checksum", "a block of rows or heap bytes did not rot"),
    comparison("cited.checksum", "what an entry cites is what was written when it was made"),
    comparison("tail.checksum", "what lies behind the last whole block is what the checkpoint found"),
    // Row versions (marks).
    sync("marks.create.sync", "a marks file has its header before it gets its name"),
    folder("marks.create.folder", "a marks file that a commit stores into has a durable name"),
    sync(
        "marks.settle.sync",
        "marks before a checkpoint are on disk, and so are those that recovery cleared",
    ),
    folder(
        "marks.settle.folder",
        "marks files that others made have durable names before a checkpoint lists them",
    ),
    pin("marks.idle.synced", "marks keep the map that hears of a failed write-back until they are synced"),
    comparison("marks.header.checksum", "the header of a marks file did not rot"),
    comparison("marks.header.identity", "a marks file belongs to this store, table and chunk"),
    comparison("marks.checksum", "marks are those that the checkpoint found"),
    comparison("marks.count", "marks since the checkpoint are as many as the journal has"),
    comparison("marks.listed", "marks that the checkpoint lists are there"),
    comparison("marks.first_write", "all marks are looked at before the first write behind a clean close"),
    fence("marks.map.fence", "a chunk that is being mapped and marks that come meanwhile find each other"),
    fence("marks.note.fence", "marks that come and a chunk that is being mapped meanwhile find each other"),
    // The journal.
    sync("journal.roll.sync", "a segment is whole on disk before the next one is there"),
    sync("journal.segment.sync", "a segment has its header and its zeros before it gets its name"),
    folder("journal.segment.folder", "a segment that entries are written to has a durable name"),
    comparison("journal.segment.checksum", "a segment's header did not rot"),
    comparison("journal.segment.identity", "a segment belongs to this store and has the number of its name"),
    comparison("journal.segment.salt", "the segment in which reading begins is of the generation in force"),
    comparison("journal.entry.checksum", "an entry is whole and did not rot"),
    comparison("journal.entry.position", "an entry of a segment's earlier life does not count"),
    comparison("journal.entry.salt", "an entry of a generation before the last recovery does not count"),
    comparison(
        "journal.following.salt",
        "a segment of a generation before the last recovery does not follow",
    ),
    comparison("journal.following.start", "a segment follows only where the one before ends"),
    comparison("journal.rot.entry", "a later entry bears witness that a damaged one was acknowledged"),
    comparison("journal.rot.segment", "a later segment bears witness that a damaged entry was acknowledged"),
    // Commits.
    sync("commit.journal.sync", "a commit is on disk before it is acknowledged"),
    sync("read.durable.sync", "a durable read shows what a power cut leaves"),
    folder(
        "takeover.journal.folder",
        "a segment that a dead writer made has a durable name before it is used",
    ),
    sync("takeover.journal.sync", "commits of a dead writer are on disk before they are published"),
    // Checkpoints.
    sync("checkpoint.space.sync", "rows and heap bytes before a checkpoint are on disk"),
    sync("checkpoint.index.sync", "an index that a clean close vouches for is on disk"),
    sync("checkpoint.journal.sync", "a checkpoint entry is on disk before `super` names it"),
    sync("sums.sync", "checksums of blocks are on disk before a checkpoint says they are there"),
    folder("sums.folder", "files of checksums have durable names before a checkpoint says they are there"),
    sync("super.advance.sync", "`super` names the checkpoint before older segments are used again"),
    // Recovery.
    comparison("super.slot.checksum", "a torn or rotten slot of `super` does not count"),
    comparison("super.checkpoint.checksum", "the entry that `super` names is that checkpoint"),
    folder(
        "recover.folder",
        "names in the store's folder are durable, whoever made them: also of a new store",
    ),
    sync("super.repeat", "neither slot of `super` leads back to a generation before"),
    comparison("recover.schema.fingerprint", "a table has the layout that the checkpoint knows"),
    comparison("replay.schema.fingerprint", "a new table has the layout that its commit knows"),
    comparison("replay.seq", "commits are replayed without gaps"),
    comparison("recover.published", "a journal that ends before what was published is damaged, not short"),
    comparison("survived.identity", "`control` of another boot, mount or folder says nothing"),
    comparison("survived.poison", "after a poisoned store nothing in memory is believed"),
    // Content.
    comparison("schema.checksum", "a schema did not rot"),
    comparison("heap.item.header", "a field and the item that it names agree"),
    comparison("heap.item.hash", "an item of the heap did not rot"),
    comparison("zones.checksum", "zones did not rot"),
    comparison("zones.identity", "zones are of this chunk, these rows and these fields"),
    comparison("verify.key.digest", "`verify` finds a row with a digest that is not its key's"),
    // State shared by processes.
    fence("control.publish.fence", "whoever reads a record that is being written anew can tell"),
    fence(
        "control.read.fence",
        "a snapshot is looked through before it is asked whether it was written anew",
    ),
    pin("pin.slot", "what a snapshot reads stays"),
    pin("pin.shared", "what a snapshot reads stays, when more are open than a process has slots"),
    pin("pin.group", "no other process takes a process's slots for those of a dead one, or for its own"),
    pin("pin.horizon.write", "a snapshot that begins while pins are looked at is not missed"),
    pin("pin.horizon.read", "a snapshot that began too late begins anew"),
    pin("lock.writer", "one process writes at a time"),
    pin("lock.presence", "nobody recovers a store that a process has open"),
    pin("lock.entry", "nobody joins a store that only others have who are about to join it"),
    comparison("join.version", "processes that share `control` agree on its layout"),
    comparison("join.folder", "processes that share `control` share the other files too"),
    comparison("join.boot", "processes that share `control` run on one kernel"),
    // The hash index.
    fence("hash.segment.fence", "a reader that sees a segment being written anew sees that its name is gone"),
    fence("hash.free.fence", "a reader that sees a segment being freed sees that its name is gone"),
    fence("hash.chain.fence", "a reader that sees a member of a chain sees what is in it"),
    fence("hash.find.fence", "a key that is not found was not moved meanwhile"),
    fence(
        "hash.find_any.fence",
        "a key that is not found was not moved meanwhile, in the look-up with all cases",
    ),
    sync("hash.pieces.sync", "segments and tops are on disk before a clean close"),
    sync("hash.head.sync", "`head` is on disk before a clean close"),
    sync("hash.sum.sync", "the index's checksum is on disk before a clean close"),
    folder("hash.folder", "the index's files have durable names before a clean close"),
    folder("hash.folder.above", "the folder of an index has a durable name before a clean close"),
    comparison("hash.head.checksum", "`head` did not rot"),
    comparison("hash.head.identity", "an index belongs to this store and table"),
    comparison("hash.checksum", "an index is what it was when the store was closed"),
    comparison("hash.seen", "an index that a killed process left is of these rows, not of another copy's"),
    comparison("hash.sum.checksum", "the index's checksum did not rot itself"),
    // The ordered index.
    sync("ordered.first.roots", "there are roots on disk before there are blocks"),
    sync("ordered.blocks.sync", "blocks are on disk before a root names them"),
    sync("ordered.roots.sync", "a root is on disk before blocks that only the one before named are removed"),
    sync("ordered.settle.sync", "behind `settle` nothing is left for closing to write"),
    sync(
        "ordered.copy.sync",
        "a compacted copy is on disk before it takes the place of what it was copied from",
    ),
    folder(
        "ordered.exchange.folder",
        "what was there before a compaction is removed only once the copy has its name",
    ),
    folder("ordered.aside.folder", "a damaged folder that was moved away does not come back"),
    sync("ordered.sled.flush", "what sled has in memory is in its files before these are synced"),
    sync("ordered.sled.db", "sled's log is on disk"),
    sync("ordered.sled.files", "sled's other files are on disk"),
    folder("ordered.sled.folder", "sled's files have durable names"),
    comparison("ordered.roots.checksum", "the roots did not rot"),
    comparison("ordered.roots.pairs", "a directory has as many pairs as its root says"),
    comparison("ordered.part.checksum", "a part of a directory did not rot"),
    comparison("ordered.block.checksum", "a block did not rot"),
    comparison("ordered.watermark.digest", "an index was made from these rows"),
    pin("ordered.version.pin", "blocks of a version that someone reads stay"),
];

/// Safeguards whose absence no test can detect, and the reasons to keep them.
pub const REDUNDANT: &[(&str, &str)] = &[
    (
        "chunk.header.checksum",
        "every word of the header is compared with what it must be (`chunk.header.identity`), and the length with the file's; \
         headers are sealed alike everywhere, and it costs no I/O",
    ),
    (
        "marks.header.checksum",
        "every word of the header is compared with what it must be (`marks.header.identity`); headers are sealed alike \
         everywhere, and it costs no I/O",
    ),
    (
        "marks.header.identity",
        "marks of another chunk differ from what the checkpoint (`marks.checksum`) and the journal (`marks.count`) say; this \
         one knows it before anything is stored into them",
    ),
    (
        "super.checkpoint.checksum",
        "the entry is right in itself, and of the place and salt that `super` names; it tells a `super` of another copy of \
         the store, with which the rest would be sound",
    ),
    (
        "survived.poison",
        "decides only whether an index is kept; entries that were applied to it in part were not published, and are applied \
         again. With it nothing rests on that",
    ),
    (
        "marks.map.fence",
        "whoever maps a chunk and whoever brings marks both hold the space's lock, so that neither comes between the other's \
         steps; it costs no more than the mapping",
    ),
    ("marks.note.fence", "as `marks.map.fence`"),
    ("hash.head.checksum", "every word that it covers is compared with what it must be; it costs no I/O"),
    (
        "hash.sum.checksum",
        "a checksum that rotted differs from what is found just the same; with it the message says which of the two it is",
    ),
    (
        "hash.free.fence",
        "each store behind it is a release by itself, and readers do not follow free segments; whoever takes the segment again has          a fence of its own (docs/LOOM.md)",
    ),
    (
        "ordered.aside.folder",
        "a damaged folder that comes back is found damaged again, and set aside again; this one saves that time",
    ),
    (
        "ordered.sled.db",
        "what is lost without it is the end of sled's log, roots and all: the index is late then, and is brought up from the rows",
    ),
    (
        "ordered.sled.files",
        "as `ordered.sled.db`: sled's snapshots and settings are made from the log, or anew",
    ),
    (
        "ordered.roots.pairs",
        "the roots and each part have checksums of their own; it notices a defect, not rot",
    ),
];
