//! The list of all safeguards of the store, with name and purpose. A test (`tests/safeguards.rs`)
//! compares the list with the source: no name is missing or used at two places, and every sync,
//! comparison, fence and pin has one. `pongo_core::guard` documents how a safeguard is disabled;
//! `src/bin/removed/` disables each in turn.

/// How a safeguard works, which determines the kind of test that detects its absence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SafeguardKind {
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
    pub kind: SafeguardKind,
    /// Its purpose.
    pub purpose: &'static str,
}

const fn sync(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Sync, purpose }
}

const fn folder(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Folder, purpose }
}

const fn comparison(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Comparison, purpose }
}

const fn fence(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Fence, purpose }
}

const fn space(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Space, purpose }
}

const fn pin(name: &'static str, purpose: &'static str) -> Safeguard {
    Safeguard { name, kind: SafeguardKind::Pin, purpose }
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
    folder("table.clear.folder", "files left by a lost table of the same name do not reappear"),
    folder(
        "table.folder.above",
        "the folders of schemas and tables have durable names, whichever process recreated them",
    ),
    // Space (docs/design/full-disk.md).
    space("space.nocow", "files on btrfs are written in place, so that their space can be preallocated"),
    space(
        "space.unshare",
        "blocks that a file on xfs shares with a copy of it are not counted as preallocated",
    ),
    space(
        "space.writable",
        "a page in a file system snapshot gets its new space before a store, which would raise a signal",
    ),
    space("space.room", "rows are filled in memory, not in a map, where stores to a map may need space"),
    space("space.control", "the space for the first store to `control` is allocated before it"),
    space("space.holes", "a hole is trusted only where the file system also queries the page cache"),
    space("ordered.holes.sync", "data that sled wrote and that is only in memory is not treated as holes"),
    // Chunks.
    sync("chunk.settle.sync", "a chunk has its header before it gets its name"),
    folder("chunk.settle.folder", "rows that were committed are stored in a chunk with a durable name"),
    folder(
        "chunk.settle.above",
        "the first chunk of a folder is in one with a durable name, whichever process recreated it",
    ),
    sync(
        "cited.rows.sync",
        "rows that an entry references, but does not contain, are on disk before the entry",
    ),
    sync(
        "cited.heap.sync",
        "heap bytes that an entry references, but does not contain, are on disk before the entry",
    ),
    comparison("chunk.header.checksum", "the chunk's header is not corrupted"),
    comparison("chunk.header.identity", "a chunk belongs to this store, table, layout and place"),
    comparison("block.checksum", "a block of rows or heap bytes is not corrupted"),
    comparison(
        "cited.checksum",
        "the data that an entry references is what was written when the entry was created",
    ),
    comparison("tail.checksum", "the data after the last complete block is the same as at the checkpoint"),
    // Row versions (marks).
    sync("marks.create.sync", "a marks file has its header before it gets its name"),
    folder("marks.create.folder", "a marks file that a commit stores into has a durable name"),
    sync(
        "marks.settle.sync",
        "marks from before a checkpoint are on disk, and so are those that recovery cleared",
    ),
    folder(
        "marks.settle.folder",
        "marks files that other processes created have durable names before a checkpoint lists them",
    ),
    pin("marks.idle.synced", "marks keep the map that reports a failed write-back until they are synced"),
    comparison("marks.header.checksum", "the header of a marks file is not corrupted"),
    comparison("marks.header.identity", "a marks file belongs to this store, table and chunk"),
    comparison("marks.checksum", "marks are the same as at the checkpoint"),
    comparison("marks.count", "the number of marks since the checkpoint equals that in the journal"),
    comparison("marks.listed", "marks that the checkpoint lists exist"),
    comparison("marks.first_write", "all marks are checked before the first write after a clean close"),
    fence(
        "marks.map.fence",
        "a thread that maps a chunk sees concurrently added marks, or the adding thread sees the chunk",
    ),
    fence(
        "marks.note.fence",
        "a thread that adds marks sees a concurrently mapped chunk, or the mapping thread sees the marks",
    ),
    // The journal.
    sync("journal.roll.sync", "a segment is complete on disk before the next one exists"),
    sync("journal.segment.sync", "a segment has its header and its zeros before it gets its name"),
    folder("journal.segment.folder", "a segment that entries are written to has a durable name"),
    comparison("journal.segment.checksum", "a segment's header is not corrupted"),
    comparison(
        "journal.segment.identity",
        "a segment belongs to this store and has the number in its file name",
    ),
    comparison("journal.segment.salt", "the segment in which reading starts is of the current generation"),
    comparison("journal.entry.checksum", "an entry is complete and not corrupted"),
    comparison("journal.entry.position", "an entry from an earlier use of the segment's file is ignored"),
    comparison("journal.entry.salt", "an entry of a generation before the last recovery is ignored"),
    comparison(
        "journal.following.salt",
        "a segment of a generation before the last recovery is not read as the next one",
    ),
    comparison(
        "journal.following.start",
        "a segment is read as the next one only if it starts where the previous one ends",
    ),
    comparison("journal.rot.entry", "a later entry proves that a damaged entry was acknowledged"),
    comparison("journal.rot.segment", "a later segment proves that a damaged entry was acknowledged"),
    // Commits.
    sync("commit.journal.sync", "a commit is on disk before it is acknowledged"),
    sync("read.durable.sync", "a durable read returns only what survives a power cut"),
    folder(
        "takeover.journal.folder",
        "a segment that a killed writer created has a durable name before it is used",
    ),
    sync("takeover.journal.sync", "commits of a killed writer are on disk before they are published"),
    // Checkpoints.
    sync("checkpoint.space.sync", "rows and heap bytes from before a checkpoint are on disk"),
    sync("checkpoint.index.sync", "an index that a clean close declares valid is on disk"),
    sync("checkpoint.journal.sync", "a checkpoint entry is on disk before `super` names it"),
    sync("sums.sync", "checksums of blocks are on disk before a checkpoint states that they exist"),
    folder("sums.folder", "files of checksums have durable names before a checkpoint states that they exist"),
    sync("super.advance.sync", "`super` names the checkpoint before older segments are reused"),
    // Recovery.
    comparison("super.slot.checksum", "a torn or corrupted slot of `super` is ignored"),
    comparison("super.checkpoint.checksum", "the entry that `super` names is that checkpoint"),
    folder(
        "recover.folder",
        "names in the store's folder are durable, whichever process created them, also in a new store",
    ),
    sync("super.repeat", "neither slot of `super` refers to an earlier generation"),
    comparison("recover.schema.fingerprint", "a table has the layout that the checkpoint records"),
    comparison("replay.schema.fingerprint", "a new table has the layout that its commit records"),
    comparison("replay.seq", "commits are replayed without gaps"),
    comparison(
        "recover.published",
        "a journal that ends before the last published commit is treated as damaged, not as short",
    ),
    comparison("survived.identity", "`control` of another boot, mount or folder is ignored"),
    comparison("survived.poison", "after a store was poisoned, no data in memory is trusted"),
    // Content.
    comparison("schema.checksum", "a schema is not corrupted"),
    comparison(
        "heap.item.header",
        "a field and the heap item that it refers to have the same length and hash",
    ),
    comparison("heap.item.hash", "an item of the heap is not corrupted"),
    comparison("zones.checksum", "zones are not corrupted"),
    comparison("zones.identity", "zones belong to this chunk, these rows and these fields"),
    comparison("verify.key.digest", "`verify` detects a row with a digest that is not its key's"),
    // State shared by processes.
    fence(
        "control.publish.fence",
        "a thread that reads a record while it is being overwritten can detect that",
    ),
    fence("control.read.fence", "a snapshot is read completely before the check whether it was overwritten"),
    pin("pin.slot", "data that a snapshot reads is kept"),
    pin("pin.shared", "data that a snapshot reads is kept, when more are open than a process has slots"),
    pin(
        "pin.group",
        "no process mistakes another process's slots for those of a terminated one, or for its own",
    ),
    pin("pin.horizon.write", "a snapshot that starts while pins are scanned is not missed"),
    pin("pin.horizon.read", "a snapshot that started too late is started again"),
    pin("lock.writer", "one process writes at a time"),
    pin("lock.presence", "no process recovers a store that another process has open"),
    pin("lock.entry", "no process joins a store whose only other holders are themselves about to join it"),
    comparison("join.version", "processes that share `control` agree on its layout"),
    comparison("join.folder", "processes that share `control` share the other files too"),
    comparison("join.boot", "processes that share `control` run on one kernel"),
    // The hash index.
    fence(
        "hash.segment.fence",
        "a reader that sees a segment being rewritten sees that the reference to it is gone",
    ),
    fence(
        "hash.free.fence",
        "a reader that sees a segment being freed sees that the reference to it is gone",
    ),
    fence("hash.chain.fence", "a reader that sees a member of a chain sees its content"),
    fence("hash.find.fence", "a key that is not found was not moved during the look-up"),
    fence(
        "hash.find_any.fence",
        "a key that is not found was not moved during the look-up that handles all cases",
    ),
    sync("hash.pieces.sync", "segments and tops are on disk before a clean close"),
    sync("hash.head.sync", "`head` is on disk before a clean close"),
    sync("hash.sum.sync", "the index's checksum is on disk before a clean close"),
    folder("hash.folder", "the index's files have durable names before a clean close"),
    folder("hash.folder.above", "the folder of an index has a durable name before a clean close"),
    comparison("hash.head.checksum", "`head` is not corrupted"),
    comparison("hash.head.identity", "an index belongs to this store and table"),
    comparison("hash.checksum", "an index is unchanged since the store was closed"),
    comparison("hash.seen", "an index that a killed process left is of these rows, not of another copy's"),
    comparison("hash.sum.checksum", "the index's checksum is not itself corrupted"),
    // The ordered index.
    sync("ordered.first.roots", "roots are on disk before blocks exist"),
    sync("ordered.blocks.sync", "blocks are on disk before a root names them"),
    sync(
        "ordered.roots.sync",
        "a root is on disk before blocks that only the previous root named are removed",
    ),
    sync("ordered.settle.sync", "after `settle` there is nothing left to write at close"),
    sync("ordered.copy.sync", "a compacted copy is on disk before it replaces the original"),
    folder(
        "ordered.exchange.folder",
        "the data from before a compaction is removed only once the copy has its name",
    ),
    folder("ordered.aside.folder", "a damaged folder that was moved away does not reappear"),
    comparison("ordered.aside.identity", "only the folder that was found damaged is moved away"),
    sync("ordered.sled.flush", "data that sled holds in memory is in its files before these are synced"),
    sync("ordered.sled.db", "sled's log is on disk"),
    sync("ordered.sled.files", "sled's other files are on disk"),
    folder("ordered.sled.folder", "sled's files have durable names"),
    comparison("ordered.roots.checksum", "the roots are not corrupted"),
    comparison("ordered.roots.pairs", "a directory has the number of pairs that its root states"),
    comparison("ordered.part.checksum", "a part of a directory is not corrupted"),
    comparison("ordered.block.checksum", "a block is not corrupted"),
    comparison("ordered.watermark.digest", "an index was built from these rows"),
    pin("ordered.version.pin", "blocks of a version that is being read are kept"),
];

/// Safeguards whose absence no test can detect, and the reasons to keep them.
pub const REDUNDANT: &[(&str, &str)] = &[
    (
        "chunk.header.checksum",
        "every word of the header is compared with its expected value (`chunk.header.identity`), and the \
         length with the file's; all headers are sealed in the same way, and the check costs no I/O",
    ),
    (
        "marks.header.checksum",
        "every word of the header is compared with its expected value (`marks.header.identity`); all headers \
         are sealed in the same way, and the check costs no I/O",
    ),
    (
        "marks.header.identity",
        "marks of another chunk differ from what the checkpoint (`marks.checksum`) and the journal \
         (`marks.count`) record; this check detects them before anything is stored into them",
    ),
    (
        "super.checkpoint.checksum",
        "the entry is valid in itself, and has the position and salt that `super` names; this check detects \
         a `super` of another copy of the store, with which everything else would be valid",
    ),
    (
        "survived.poison",
        "decides only whether an index is kept; entries that were partly applied to it were not published, \
         and are applied again. With this check, correctness does not depend on that",
    ),
    (
        "marks.map.fence",
        "a thread that maps a chunk and a thread that adds marks both hold the space's lock, so that neither \
         runs between the other's steps; the fence costs no more than the mapping",
    ),
    ("marks.note.fence", "as `marks.map.fence`"),
    (
        "hash.head.checksum",
        "every word that it covers is compared with its expected value; the check costs no I/O",
    ),
    (
        "hash.sum.checksum",
        "a corrupted checksum differs from the computed one in any case; with this check the message says \
         which of the two is corrupted",
    ),
    (
        "hash.free.fence",
        "each store after it is a release store by itself, and readers do not follow free segments; the \
         writer that reuses the segment has its own fence (docs/design/testing.md)",
    ),
    (
        "ordered.aside.folder",
        "a damaged folder that reappears is detected and moved away again; this sync saves that time",
    ),
    (
        "ordered.sled.db",
        "without it the end of sled's log is lost, including the roots in it: the index is then out of date, \
         and is updated from the rows",
    ),
    (
        "ordered.sled.files",
        "as `ordered.sled.db`: sled's snapshots and settings are rebuilt from the log, or created again",
    ),
    (
        "ordered.roots.pairs",
        "the roots and each part have their own checksums; this check detects a bug, not corruption",
    ),
];
