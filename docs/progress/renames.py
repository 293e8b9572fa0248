#!/usr/bin/env python3
"""Applies the renames of issue 12 A to a PongoDB work tree.

  renames.py [--repo DIR]                 dry run: prints counts, changes nothing
  renames.py [--repo DIR] --check         dry run, and prints collisions and what is left over
  renames.py [--repo DIR] --apply         edits the files and runs `git mv`
  renames.py [--repo DIR] --diff FILE     dry run, writes the whole diff to FILE
  renames.py --table OUT                  writes RENAMES.md from the same list
  --only A,B,..   only these groups       --skip names,..  leaves out single old names

Rust files are split into code, comments and string literals. Code (also fenced code in doc comments and in *.md) is
renamed; prose only inside backticks, unless the name is one that cannot be a word of English (`set_aside`, `BytesByPart`);
string literals never, except `{name}` captures of format strings and the literals listed under S.
"""
import argparse, collections, difflib, fnmatch, os, re, subprocess, sys

CORE, IDX, DER, SIM, TOR, BENCH = ('crates/pongo-%s/' % c for c in ('core', 'index', 'derive', 'sim', 'torture', 'bench'))
FACE, T, EX = 'src/', 'tests/', 'examples/'
NEVER = ['docs/removed.md', 'dev/bench/base/']  # generated; compiled against two commits
RULES = []


class Rule:
    def __init__(self, group, kind, how, old, new, where, pats, note, distinct, name):
        self.group, self.kind, self.how, self.old, self.new = group, kind, how, old, new
        self.where, self.pats, self.note, self.name = where, pats, note, name or old
        self.distinct = distinct if distinct is not None else bool(re.search(r'_|[a-z0-9][A-Z]', old))


def add(group, kind, how, old, new, where, pats, note='', distinct=None, name=None):
    RULES.append(Rule(group, kind, how, old, new, where, pats, note, distinct, name))


def lst(where):
    return where.split() if isinstance(where, str) else where


def W(group, kind, old, new, where=None, note='', distinct=None, name=None):
    "Every occurrence of the word."
    add(group, kind, 'word', old, new, lst(where), [(rf'(?<![\w\'])(?<!r#){re.escape(old)}(?!\w)', new)], note, distinct, name)


def M(group, old, new, where=None, note='', name=None, kind='method'):
    "`fn old`, `.old(`, `::old`."
    o = re.escape(old)
    add(group, kind, 'method', old, new, lst(where),
        [(rf'(?<=\.){o}(?=\s*(?:::<|\())', new), (rf'\bfn {o}(?!\w)', 'fn ' + new), (rf'(?<=::){o}(?!\w)', new)], note, False, name)


def X(group, kind, old, new, pats, where, note='', name=None):
    "Patterns."
    add(group, kind, 'patterns', old, new, lst(where), pats, note, False, name)


def S(group, old, new, where, note=''):
    "Literal text, also in strings."
    add(group, 'string', 'literal', old, new, lst(where), [(re.escape(old), new.replace('\\', r'\\'))], note, True)


def FILE(group, old, new, note='', kind='module file'):
    add(group, kind, 'file', old, new, None, [], note, True)


def H(group, kind, old, new, note, where=None):
    "By hand, or not at all: only in the table."
    add(group, kind, 'hand', old, new, lst(where), [], note)


# ---------------------------------------------------------------------------------------------- A: public
A = 'A'
X(A, 'method', 'settle', 'catch_up_indexes',
  [(r'(?<=\bstore\.)settle(?=\()', 'catch_up_indexes'), (r'(?<=store\(\)\.)settle(?=\()', 'catch_up_indexes'),
   (r'(?<=Store::)settle\b', 'catch_up_indexes'), (r'(?<=self\.shared\.)settle(?=\()', 'catch_up_indexes')],
  [FACE, T, EX, TOR, BENCH, '*.md', CORE + 'src/error.rs'], name='pongo::Store::settle',
  note='receivers `store`, `self.store`, `store()`; the protocol word "settle" of test agents is a string and stays')
X(A, 'method', 'settle', 'catch_up_indexes', [(r'(?<=fn )settle(?=\(&self\) -> Result<\(\), ReadError>)', 'catch_up_indexes'),
  (r'(?<=Self::)settle\b', 'catch_up_indexes'), (r'(?<=self\.engine\.)settle(?=\()', 'prepare_close'),
  (r'(?<=blocks\.)settle(?=\()', 'sync_removals'), (r'(?<=self\.)settled\b', 'caught_up'),
  (r'\bsettled(?=: AtomicU64)', 'caught_up')],
  'src/store.rs', name='pongo::store::Shared::settle')
X(A, 'method', 'settle', 'prepare_close', [(r'(?<=fn )settle(?=\()', 'prepare_close')], CORE + 'src/engine/open.rs',
  name='pongo_core::Engine::settle', note='its caller is in src/store.rs, in the row above')
X(A, 'method', 'settle', 'sync_removals', [(r'(?<=fn )settle(?=\()', 'sync_removals'), (r'(?<=\.)settle(?=\()', 'sync_removals')],
  [IDX], name='pongo_index::OrderedStore::settle')
W(A, 'type', 'By', 'IndexView', [FACE, T, EX, TOR, '*.md'], name='pongo::By', note='method `by` stays (issue)')
W(A, 'type', 'ExternalBy', 'ExternalIndexView', name='pongo::ExternalBy')
W(A, 'type', 'ByMut', 'IndexViewMut', name='pongo::ByMut')
FILE(A, 'src/by.rs', 'src/index_view.rs')
M(A, 'equal', 'eq', [FACE, T, EX, TOR, BENCH + 'src/engines/pongo.rs', '*.md', '!src/filter.rs'],
  name='pongo::By::equal, ExternalBy::equal',
  note='as `Column::eq`; not `get`, which returns one row everywhere else; `Indexed::equal` of pongo-bench is its own trait')
X(A, 'method', 'equal', 'equal', [(r'(?<=fn )eq(?=\(&self, accounts)', 'equal')], BENCH + 'src/engines/pongo.rs',
  name='(keeps Indexed::equal of pongo-bench)')
X(A, 'method', 'set_aside', 'quarantine', [(r'\bset_aside(?=\()', 'quarantine'), (r'(?<=identity, )set_aside\b', 'quarantine'),
  (r'(?<=, )set_aside(?=[,}])(?=.*in_sled|\};?$)', 'quarantine')],
  [IDX + 'src/ordered/in_sled.rs', IDX + 'src/ordered/sled_folder.rs',
   IDX + 'src/ordered/mod.rs', IDX + 'tests/ordered_damage.rs', 'src/ordered/mod.rs'],
  name='pongo_index::ordered::set_aside (fn)')
W(A, 'field', 'set_aside', 'quarantined', ['src/stats.rs', 'src/ordered/mod.rs', T, TOR + 'tests/live/', TOR + 'src/'],
  name='OrderedStatus::set_aside')
W(A, 'field', 'last_doubt', 'last_error', name='OrderedStatus::last_doubt')
X(A, 'field', 'refused', 'unavailable_reason', [(r'\brefused(?=: Option<String>)', 'unavailable_reason'),
  (r'\brefused(?=: match &\*held)', 'unavailable_reason'), (r'\brefused: state\.refused', 'unavailable_reason: state.unavailable_reason'),
  (r'(?<=found\.)refused\b', 'unavailable_reason'), (r'(?<=status\.)refused\b', 'unavailable_reason'),
  (r'(?<=\(&store\)\?\.)refused\b', 'unavailable_reason'), (r'^(\s+)refused,$', r'\1unavailable_reason,'),
  (r'(?<=Some\(reason\) = )refused\b', 'unavailable_reason'), (r'(?<=\(why\) = )refused\b', 'unavailable_reason')],
  ['src/stats.rs', 'src/ordered/mod.rs', T + 'ordered_harm/', T + 'closing.rs', T + 'descriptors.rs', TOR + 'tests/live/'],
  name='OrderedStatus::refused', note='the word is used for much else: only these files')
W(A, 'type', 'DiskUsage', 'SpaceUsage', [CORE], name='pongo_core::engine::DiskUsage')
W(A, 'method', 'disk_usage', 'space_usage', name='pongo_core::Engine::disk_usage')
W(A, 'type', 'BytesByPart', 'DiskUsage', name='pongo::BytesByPart', note='after the two rows above')
W(A, 'type', 'ConditionShare', 'PredicateStats', name='pongo::ConditionShare')
W(A, 'type', 'Share', 'ScanStats', ['src/explain.rs', 'src/lib.rs', 'src/filter.rs', 'tests/filter.rs', 'tests/flights.rs'], name='pongo::Share',
  note='tests/rot/worker.rs of pongo-crashtest has its own `Share`')
EXPL = ['src/explain.rs', 'src/cookbook.rs', 'tests/filter.rs', 'tests/flights.rs', TOR + 'src/fuzz/predicate.rs', EX, 'README.md']
for _o, _n in (('all', 'total'), ('skipped', 'pruned'), ('taken', 'matched'), ('tested', 'scanned')):
    X(A, 'field', _o, _n, [(rf'(?<=\bexplain\.){_o}\b(?!\()', _n), (rf'(?<=explain\(\)\?\.){_o}\b(?!\()', _n),
      (rf'(?<=\bplan\.){_o}\b(?!\()(?=\.(?:rows|zones|chunks))', _n)], EXPL, name=f'Explain::{_o}')
    X(A, 'field', _o, _n, [(rf'(?<=\bself\.){_o}\b(?!\()', _n), (rf'(?<=\bbefore\.){_o}\b(?!\()', _n), (rf'\bpub {_o}(?=: Share|: ScanStats)', 'pub ' + _n)],
      'src/explain.rs', name=f'Explain::{_o} (definition)')
W(A, 'field', 'ruled_out', 'pruned', name='ConditionShare::ruled_out')
W(A, 'type', 'Problem', 'VerifyIssue', ['src/verify.rs', 'src/lib.rs', 'src/cookbook.rs', T, TOR], name='pongo::Problem', note='as VerifyReport, VerifyStep, VerifyProgress')
X(A, 'field', 'problems', 'issues', [(r'(?<=report\.)problems\b', 'issues'), (r'(?<=VerifyReport::)problems\b', 'issues'),
  (r'(?<=unwrap\(\)\.)problems\b', 'issues')], [FACE, T, EX, TOR, '*.md'], name='VerifyReport::problems',
  note='`judge.problems` in rot.rs is another field')
X(A, 'field', 'problems', 'issues', [(r'(?<=self\.)problems\b', 'issues'), (r'(?<=pub )problems\b', 'issues'), (r'(?<=report\.)problems\b', 'issues'),
  (r'\bproblems(?=: )', 'issues')],
  'src/verify.rs', name='VerifyReport::problems (definition)')
X(A, 'const', 'MOST', 'MAX_ISSUES', [(r'(?<=Self::)MOST\b', 'MAX_ISSUES'), (r'(?<=VerifyReport::)MOST\b', 'MAX_ISSUES'), (r'(?<=const )MOST\b', 'MAX_ISSUES')],
  ['src/verify.rs', T, TOR + 'tests/'], name='VerifyReport::MOST')
X(A, 'const', 'MOST', 'MOST', [(r'(?<=const )MAX_ISSUES(?=: usize = (?:64|48))', 'MOST')], ['tests/descriptors.rs'], name='(keeps MOST of tests/descriptors.rs)')
M(A, 'is_sound', 'is_valid', [FACE, T, EX, TOR, '*.md'], name='VerifyReport::is_sound',
  note='not `is_ok`: `store.verify(..).is_ok()` without `?` compiles, and would pass for every report; `Plan::is_sound` of pongo-core zones stays')
W(A, 'method', 'is_sound', 'is_valid', ['CHANGELOG.md', 'docs/', 'README.md'], name='VerifyReport::is_sound (docs)')
X(A, 'variant', 'Fault', 'Storage', [(r'(?<=(?:Open|Read)Error::)Fault\b', 'Storage'), (r'(?<=WriteError::)Fault\b', 'Storage'),
  (r'(?<=(?:Close)Error::)Fault\b', 'Storage'), (r'(?<=CommitError::)Fault\b', 'Storage')], None,
  name='{Open,Read,Write}Error::Fault', note='before the type')
X(A, 'variant', 'Fault', 'Storage', [(r'^(\s+)Fault\(#\[from\]', r'\1Storage(#[from]')], CORE + 'src/error.rs', name='{Open,Read,Write}Error::Fault (definition)')
W(A, 'type', 'Fault', 'StorageError', [CORE, '!' + CORE + 'tests/engine/hosts.rs', FACE, T, EX, 'docs/', 'ARCHITECTURE.md', 'CHANGELOG.md', 'README.md', 'CONTRIBUTING.md',
  TOR + 'tests/failing_disk.rs'], name='pongo::Fault (pongo_core::error::Fault)',
  note='not in pongo-sim and pongo-crashtest: a planned fault of fault injection; not in pongo-index/src/hash')
S(A, 'map_err(Fault::io(Fault::SYNCING', 'map_err(StorageError::io(StorageError::SYNCING', TOR + 'tests/safeguards.rs', 'this test reads the source as text')
W(A, 'type', 'Fault', 'BoxedError', [IDX + 'src/hash/'], name='pongo_index::hash::error::Fault (alias of Box<HashError>)')
for _o, _n in (('BrokenOff', 'IncompleteChange'), ('TwoTypes', 'TableTypeMismatch'), ('SameDigest', 'DigestCollision'),
               ('NotUnique', 'UniqueViolation'), ('UniqueMissing', 'MissingUniqueIndex'), ('NoZeroValue', 'NotZeroable')):
    W(A, 'variant', _o, _n, name=f'WriteError::{_o}', note='also `extend`-free causes (modify, retain, alloc), so not IncompleteLoad' if _o == 'BrokenOff' else '')
X(A, 'field', 'in_the_way', 'find_conflict', [(r'(?<=self\.)in_the_way(?=\()', 'find_conflict'), (r'(?<=fn )in_the_way\b', 'find_conflict')], 'src/enforce.rs',
  name='Staging::in_the_way')
X(A, 'fn', 'in_the_way', 'conflicting_id', [(r'\bin_the_way(?=\()', 'conflicting_id'), (r'(?<=check, )in_the_way(?=, mail)', 'conflicting_id'), (r'(?<=Seat, )in_the_way\b', 'conflicting_id')],
  ['tests/unique.rs', 'tests/unique/people.rs'], name='tests/unique/people.rs::in_the_way')
W(A, 'field', 'in_the_way', 'existing_key', [CORE, FACE, T, EX, 'docs/', '*.md', TOR], name='WriteError::{SameDigest,NotUnique}::in_the_way')
W(A, 'const', 'BLANK', 'ABSENT_VALUE', distinct=True, name='FieldType::BLANK', note='also generated by the derive and in .stderr: run the ui tests with TRYBUILD=overwrite')
X(A, 'method', 'create', 'create_if_missing', [(r'(?<=Options::new\(\)\.)create(?=\((?:true|false)\)\.open\(path\))', 'create_if_missing'),
  (r'(?<=`)create(?=\(false\)`)', 'create_if_missing'), (r'(?<=Options::)create\b', 'create_if_missing'),
  (r'(?<=pub fn )create(?=\(mut self, create: bool)', 'create_if_missing')], ['src/store.rs', 'src/cookbook.rs', 'tests/bad_input/folders.rs', CORE + 'src/error.rs', 'README.md', 'CHANGELOG.md'],
  name='Options::create', note='look for `create(false)` in prose of docs and error messages by hand')
S(A, '(`Options::create(true)`)', '(`Options::create_if_missing(true)`)', CORE + 'src/error.rs', 'error text')
S(A, '(`Options::create(false)`)', '(`Options::create_if_missing(false)`)', 'src/store.rs', 'error text')
X(A, 'method', 'finish', 'insert', [(r'(?<=\b(?:rows|tile)\.)finish(?=\(\))', 'insert'), (r'(?<=\bmap\.)finish(?=\(\))', 'insert'), (r'(?<=\bworld\.)finish(?=\(\))', 'insert'),
  (r'(?<=\brow\.)finish(?=\(\))', 'insert'), (r'(?<=\bfilled\.)finish(?=\(\))', 'insert'), (r'(?<=\bregion\.)finish(?=\(\))', 'insert'),
  (r'(?<=pub fn )finish\b', 'insert'), (r'(?<=RowMut::)finish\b', 'insert'), (r'(?<=RowsMut::)finish\b', 'insert'), (r'(?<=Self::)finish\b', 'insert')],
  ['src/alloc.rs', 'src/external_mut.rs', 'src/cookbook.rs', 'src/table_mut.rs', 'tests/alloc.rs', 'tests/alloc/', 'tests/bad_input/', 'tests/external.rs', 'tests/savepoints.rs',
   TOR + 'src/transaction.rs', TOR + 'tests/calls/world.rs', 'README.md', 'CHANGELOG.md', 'docs/'],
  name='RowMut::finish, RowsMut::finish, ExternalRowMut::finish', note='receivers rows, row, map, region, filled, world; `debug_struct(..).finish()` and hashers stay')
H(A, 'method', 'RowMut::discard', 'stays', '`abort` is the transaction\'s word; `discard` is plain', ['src/alloc.rs'])
W(A, 'method', 'as_filled_bytes', 'as_padded_bytes', name='FixedStr::as_filled_bytes')
W(A, 'method', 'back_cursor', 'cursor_back', name='Range::back_cursor')
RNG = ['src/range.rs', 'src/external.rs', 'src/cookbook.rs', 'tests/', TOR + 'src/fuzz/cursor.rs', 'README.md', 'CHANGELOG.md', 'docs/', EX]
X(A, 'method', 'after', 'start_after', [(r'(?<=\.)after(?=\(&?\*?(?:cursor|Cursor))', 'start_after'), (r'(?<=Range::)after\b', 'start_after'), (r'(?<=Self::)after\b', 'start_after'),
  (r'(?<=pub fn )after(?=\((?:mut )?self, cursor)', 'start_after')], RNG, name='Range::after, ExternalRange::after')
X(A, 'method', 'before', 'end_before', [(r'(?<=\.)before(?=\(&?\*?(?:cursor|Cursor))', 'end_before'), (r'(?<=Range::)before\b', 'end_before'), (r'(?<=Self::)before\b', 'end_before'),
  (r'(?<=pub fn )before(?=\((?:mut )?self, cursor)', 'end_before')], RNG, name='Range::before')
W(A, 'method', 'begin_after', 'start_after', ['src/range.rs', 'src/ordered/'], name='Stream::begin_after', note='one term with Range')
H(A, 'type', 'External* (8 types), tx.external', 'one Table<T> over a key trait', 'part B of the issue removes them; a rename before is work thrown away')
H(A, 'method', 'Options::open, Options::in_memory', 'stay', 'terminal methods as std OpenOptions::open')
H(A, 'method', 'HeapRead::read_heap', 'stays', '"heap" is in file names, FORMAT.md and error texts; say "blob heap" once in the glossary')

# ---------------------------------------------------------------------------------------------- B: cross-crate
B = 'B'
H(B, 'type', 'Marks, marks.rs, C.marks', 'stays', 'the files on disk are `*.marks`, a public field StoreStats.bytes.marks, safeguards `marks.*` and FORMAT.md; define once: "marks = per-row deletion commit and previous version"')
W(B, 'method', 'died', 'deleted_at', [CORE, FACE, IDX, TOR, 'docs/'], name='TableView::died, Marks::died')
W(B, 'method', 'set_died', 'set_deleted_at', name='Marks::set_died')
W(B, 'method', 'died_word', 'deleted_at_word', name='Marks::died_word')
W(B, 'field', 'deaths', 'deleted_rows', [CORE, FACE, IDX], name='TableBatch::deaths, Change::deaths')
W(B, 'method', 'has_death', 'has_deletion', [CORE], name='Bound::has_death')
W(B, 'field', 'dead', 'deleted', [IDX + 'src/hash/', IDX + 'tests/', IDX + 'examples/', FACE, T, 'docs/HASH.md', BENCH + 'src/', CORE + 'tests/engine/model.rs'],
  name='Candidate::dead, Stats::dead, TableStats::dead', note='`dead` of pongo-sim is a dead process and stays')
W(B, 'method', 'set_dead', 'set_deleted', name='HashIndex::set_dead')
W(B, 'const', 'DEAD', 'DELETED', [IDX + 'src/hash/'], name='hash::layout::entry::DEAD')
W(B, 'fn', 'newest_dead', 'newest_deleted', name='indexes::newest_dead')
W(B, 'fn', 'seen_dead', 'visible_deleted', name='unique::seen_dead')
W(B, 'method', 'bury', 'mark_deleted', [FACE], name='Keys::bury, indexes::bury')
W(B, 'method', 'bury_holders', 'mark_values_deleted', name='Staging::bury_holders')
W(B, 'type', 'Grave', 'DeletedKey', ['src/keys.rs'], name='keys::Grave')
W(B, 'method', 'seen_from', 'oldest_visible_seq', name='TableCore::seen_from, Control::seen_from')
W(B, 'type', 'Pins', 'SnapshotTracker', [CORE], name='pins::Pins')
H(B, 'type', 'Pin', 'stays', '`pin`/`unpin` as crossbeam; safeguards `pin.*`')
FILE(B, CORE + 'src/pins.rs', CORE + 'src/snapshot_tracker.rs')
W(B, 'type', 'Killed', 'CrashBounds', [CORE + 'src/engine/', CORE + 'tests/engine/failing.rs', CORE + 'tests/engine/indexer.rs', FACE], name='engine::Killed')
W(B, 'field', 'killed', 'crash_bounds', [CORE + 'src/engine/indexer.rs', CORE + 'src/engine/recover.rs', CORE + 'tests/engine/failing.rs', CORE + 'tests/engine/indexer.rs', 'src/indexes.rs'],
  name='parameter `killed`')
M(B, 'adopt', 'reuse', [CORE, FACE], name='Indexer::adopt')
X(B, 'method', 'check', 'verify_checksum', [(r'(?<=indexer\.)check(?=\()', 'verify_checksum'), (r'(?<=fn )check(?=\(&self, _?table: &Arc<TableCore>\))', 'verify_checksum'),
  (r'(?<=self\.0\.)check(?=\(table\))', 'verify_checksum')], [CORE + 'src/engine/', CORE + 'tests/engine/', 'src/indexes.rs'], name='Indexer::check')
X(B, 'method', 'take_over', 'repair_after_crash', [(r'(?<=indexer\.)take_over(?=\()', 'repair_after_crash'), (r'(?<=fn )take_over(?=\(&self, _?table: &Arc<TableCore>\))', 'repair_after_crash'),
  (r'(?<=self\.0\.)take_over(?=\(table\))', 'repair_after_crash')], [CORE + 'src/engine/', CORE + 'tests/engine/', 'src/indexes.rs'], name='Indexer::take_over',
  note='Engine::take_over (the writer) stays')
H(B, 'parameter', 'Indexer::apply(.., again: bool)', 'Replay::{First, Repeat}', 'a type change, 4 implementations')
X(B, 'method', 'moment', 'version_stamp', [(r'(?<=table\.)moment(?=\(\))', 'version_stamp'), (r'(?<=core\.)moment(?=\(\))', 'version_stamp'), (r'(?<=pub fn )moment(?=\(&self\) -> u64)', 'version_stamp')],
  [CORE + 'src/', FACE], name='TableCore::moment')
S(B, 'index.sync(table.moment())', 'index.sync(table.version_stamp())', TOR + 'tests/safeguards.rs', 'this test reads the source as text')
W(B, 'type', 'WriteGuard', 'EngineTransaction', name='pongo_core::engine::WriteGuard', note='not WriteTxn: cannot be told from the public WriteTransaction; locals named `guard` by hand, later')
W(B, 'type', 'GuardTable', 'TransactionTable', name='engine::writer::GuardTable')
W(B, 'method', 'keep_appended', 'truncate_appended', name='WriteGuard::keep_appended')
W(B, 'method', 'keep_made_tables', 'truncate_new_tables', name='WriteGuard::keep_made_tables')
W(B, 'method', 'keep_staged_heap', 'truncate_staged_heap', name='WriteGuard::keep_staged_heap')
W(B, 'method', 'made_tables', 'new_table_count', name='WriteGuard::made_tables')
W(B, 'type', 'TableBatch', 'TableWriteBatch', name='engine::TableBatch')
W(B, 'type', 'Batch', 'WriteBatch', [CORE, FACE, T, TOR, IDX, 'docs/', 'ARCHITECTURE.md'], name='engine::Batch', note='RocksDB\'s word; WriteSet is taken by row 70')
H(B, 'field', 'previous', 'stays', 'the previous version of a row: plain, 186 lines, `Marks::previous` too')
W(B, 'const', 'CARRY', 'INLINE_LIMIT', [CORE + 'src/engine/commit.rs'])
W(B, 'const', 'CITED', 'REFERENCED_WEIGHT', [CORE + 'src/engine/commit.rs'])
W(B, 'const', 'CITED_SUMS', 'REFERENCED_SUMS', name='superblock::CITED_SUMS')
W(B, 'field', 'carried', 'inline', [CORE + 'src/engine/commit.rs', CORE + 'src/engine/recover.rs', CORE + 'src/engine/replay.rs', CORE + 'src/journal/entry.rs', CORE + 'src/journal/scan.rs', TOR + 'src/fuzz/'])
W(B, 'field', 'cited_bytes', 'referenced_bytes', [CORE, TOR])
W(B, 'field', 'cited_by', 'referenced_by', [TOR + 'src/fuzz/seal.rs'])
W(B, 'field', 'cited', 'referenced', [CORE, TOR], note='safeguards `cited.*` are strings and stay')
FILE(B, CORE + 'src/space/cited.rs', CORE + 'src/space/referenced.rs')
FILE(B, CORE + 'tests/engine/cited.rs', CORE + 'tests/engine/referenced.rs', kind='test file')
W(B, 'type', 'FullKeys', 'KeyExtractor', name='pongo_index::ordered::FullKeys')
W(B, 'type', 'KeyHashes', 'KeyHasher', name='pongo_index::KeyHashes')
W(B, 'type', 'RowKeys', 'RowKeyHasher', name='key_bytes::RowKeys')
W(B, 'type', 'ViewKeys', 'RowKeyExtractor', name='ordered::index::ViewKeys')
W(B, 'type', 'KeyBytesAt', 'KeyRanges', name='key_bytes::KeyBytesAt')
W(B, 'type', 'KeySource', 'KeyEncoder', name='ordered::keys::KeySource')
FILE(B, 'src/key_bytes.rs', 'src/key_ranges.rs')
H(B, 'macro', 'removable!, holds!, fails!, guard, is_left_out', 'stay', 'doc(hidden) hooks of the test build; 130 calls; the word "safeguard" of the docs and of the names says it; PONGO_REMOVE and tests/safeguards.rs read them as text')
H(B, 'crate', 'pongo-crashtest, bin/removed, docs/removed.md', 'dev/crashtest, bin/mutation-test, docs/mutation-report.md', 'with the move of part B: Cargo.toml, justfile, .ci, fuzz/Cargo.toml, suites.rs')
H(B, 'prose', '"the face", "the keeper"', '"the public crate", "the index worker"', 'prose only')
W(B, 'type', 'Keeper', 'IndexWorker', [FACE], name='ordered::keeper::Keeper', note='`Setting::Keeper` in tests/faults/main.rs is another')
W(B, 'type', 'Bell', 'WakeSignal', ['src/ordered/keeper.rs'])
W(B, 'type', 'Signal', 'WakeState', ['src/ordered/keeper.rs'])
M(B, 'ring', 'wake', ['src/ordered/', 'src/store.rs'], name='Keeper::ring')
X(B, 'fn', 'keep', 'run', [(r'\bkeep(?=\()', 'run')], 'src/ordered/keeper.rs', name='keeper::keep')
W(B, 'field', 'bell', 'wake_signal', ['src/ordered/keeper.rs'])
FILE(B, 'src/ordered/keeper.rs', 'src/ordered/worker.rs')

# ---------------------------------------------------------------------------------------------- C: engine, storage
C = 'C'
ENG = CORE + 'src/engine/'
CTL = CORE + 'src/control.rs'
M(C, 'heed', 'poison_if_sync_failed', [CORE], name='Engine::heed')
M(C, 'let_go_if_idle', 'release_if_idle', [CORE])
M(C, 'let_go', 'release_writer_lock', [CORE])
M(C, 'give_back', 'return_writer', [CORE], name='Engine::give_back')
M(C, 'give_back', 'unread', [FACE], name='Range::give_back, Stream::give_back')
X(C, 'method', 'enter', 'register_process', [(r'(?<=control\.)enter(?=\()', 'register_process'), (r'(?<=other\.)enter(?=\()', 'register_process'), (r'(?<=Control::)enter\b', 'register_process'),
  (r'(?<=fn )enter(?=\(&self\) -> Result<Entered)', 'register_process'), (r'(?<=Self::)enter\b', 'register_process')], [CTL, CORE + 'src/loom_control.rs', ENG, 'docs/'], name='Control::enter')
X(C, 'method', 'try_enter', 'try_register', [(r'\btry_enter\b', 'try_register')], CTL, name='Control::try_enter')
X(C, 'method', 'enter', 'acquire', [(r'(?<=self\.)enter(?=\()', 'acquire'), (r'(?<=fn )enter\b', 'acquire')], ENG + 'writer.rs', name='Engine::enter')
X(C, 'method', 'leave', 'deregister', [(r'(?<=control\.)leave(?=\()', 'deregister'), (r'(?<=other\.)leave(?=\()', 'deregister'), (r'(?<=self\.)leave(?=\()', 'deregister'),
  (r'(?<=fn )leave(?=\(&self)', 'deregister')], [CTL, CORE + 'src/loom_control.rs', ENG], name='Control::leave')
M(C, 'share', 'downgrade_to_shared', [CTL], name='Control::share')
M(C, 'share_again', 'retry_downgrade', [CTL], name='Control::share_again')
M(C, 'try_be_alone', 'try_lock_exclusive', [CORE])
M(C, 'while_alone', 'with_exclusive', [CORE], name='Control::while_alone')
M(C, 'let_others_in', 'retry_shared', [CORE], name='Control::let_others_in')
M(C, 'is_lone', 'is_sole_process', [CORE])
M(C, 'admit_others', 'mark_ready', [CORE])
X(C, 'variant', 'Alone', 'Solo', [(r'(?<=Hold::)Alone\b', 'Solo')], [CORE], name='Hold::Alone')
X(C, 'variant', 'Alone', 'Solo', [(r'^(\s+)Alone(?=,$)', r'\1Solo')], [CTL], name='Hold::Alone, Entered::Alone (definition)')
X(C, 'variant', 'Alone', 'Solo', [(r'(?<=Entered::)Alone\b', 'Solo')], [CORE], name='Entered::Alone')
W(C, 'type', 'Hold', 'WriteHold', [CORE + 'src/'], name='control::Hold', note='not LockMode: taken by storage::LockMode')
M(C, 'heal', 'clear_poison', [CORE])
X(C, 'method', 'survived', 'is_page_cache_intact', [(r'(?<=control\.)survived(?=\()', 'is_page_cache_intact'), (r'(?<=fn )survived(?=\()', 'is_page_cache_intact')], [CTL, ENG], name='Control::survived',
  note='safeguards `survived.*` are strings')
X(C, 'method', 'owner', 'last_writer', [(r'(?<=control\.)owner(?=\()', 'last_writer'), (r'(?<=fn )owner(?=\(&self\))', 'last_writer')], [CTL, ENG], name='Control::owner')
W(C, 'method', 'set_owner', 'set_last_writer', [CORE])
W(C, 'method', 'is_foreign_dirty', 'is_dirty_by_other_process', [CORE])
W(C, 'method', 'set_foreign_dirty', 'set_dirty_by_other_process', [CORE])
W(C, 'const', 'LOOK_AGAIN', 'POLL_INTERVAL', [CTL])
W(C, 'const', 'WAIT', 'RETRY_SLEEP', [CTL])
W(C, 'const', 'PATIENCE', 'READY_TIMEOUT', [CTL])
W(C, 'const', 'PATIENCE', 'SPIN_LIMIT', [ENG + 'writer.rs'])
W(C, 'const', 'PATIENCE', 'DROP_TIMEOUT', [IDX + 'src/ordered/'])
W(C, 'const', 'LONGEST_HOLD', 'MAX_LOCK_HOLD', [CORE])
M(C, 'settle', 'publish_name', [CORE + 'src/space/chunk.rs'], name='Chunk::settle')
X(C, 'method', 'settle', 'publish_names', [(r'(?<=fn )settle(?=\(&self\))', 'publish_names'), (r'(?<=chunk\.)settle(?=\()', 'publish_name'), (r'(?<=space\.)settle(?=\()', 'publish_names'),
  (r'(?<=heap\.)settle(?=\()', 'publish_names')], [CORE + 'src/space/mod.rs', ENG], name='Space::settle', note='safeguards `chunk.settle.*` are strings')
W(C, 'method', 'settle_marks', 'checkpoint_marks', [CORE])
W(C, 'method', 'settle_marks_of', 'checkpoint_marks_of', [CORE])
W(C, 'method', 'settle_each', 'checkpoint_each', [CORE])
W(C, 'method', 'settle_space', 'checkpoint_space', [CORE])
W(C, 'method', 'settle_spaces', 'checkpoint_spaces', [CORE])
W(C, 'method', 'settle', 'assign_rows', ['src/keys.rs', 'src/holders.rs'], name='Keys::settle, Holders::settle')
X(C, 'method', 'settle', 'assign_rows', [(r'(?<=keys\.)settle(?=\()', 'assign_rows'), (r'(?<=holders\.)settle(?=\()', 'assign_rows')], 'src/staging.rs', name='Keys::settle (callers)')
W(C, 'method', 'settle', 'insert_rows', ['src/alloc.rs'], name='RowsMut::settle')
W(C, 'field', 'settled', 'finished', ['src/alloc.rs'])
for _o, _n in (('refuse_forked', 'ensure_not_forked'), ('refuse_reader_forked', 'ensure_reader_not_forked'), ('refuse_poisoned', 'ensure_not_poisoned'),
               ('refuse_broken', 'ensure_complete'), ('refuse_foreign', 'ensure_not_foreign'), ('refuse_missing_unique', 'ensure_unique_indexes'),
               ('refuse_rot', 'detect_mid_log_corruption')):
    W(C, 'method', _o, _n)
H(C, 'prose', 'rot', 'corruption', 'prose (61 lines) and the safeguards `journal.rot.*`, which stay; test modules under E')
for _o, _n in (('mend', 'hint'), ('mend_below', 'hint_below'), ('mend_folder', 'folder_hint')):
    W(C, 'fn', _o, _n, [CORE + 'src/error.rs'])
W(C, 'const', 'MEND', 'HINT', [DER + 'src/record.rs'])
X(C, 'method', 'make_room', 'reserve_space', [(r'(?<=\.)make_room(?=\()', 'reserve_space'), (r'(?<=fn )make_room\b', 'reserve_space')], [ENG], name='Engine::make_room')
W(C, 'method', 'make_room', 'add_capacity', [IDX + 'src/hash/'], name='hash::reserve::make_room')
W(C, 'method', 'has_room', 'has_capacity', [IDX + 'src/hash/'])
W(C, 'type', 'Room', 'Capacity', [IDX + 'src/hash/reserve.rs'])
W(C, 'method', 'room_for', 'reserve_rows', [CORE], note='FORMAT and comments that say "room" by hand')
W(C, 'method', 'clear_room', 'zero_window', [CORE])
M(C, 'room', 'writable_window', [CORE + 'src/', 'docs/UNSAFE.md'], name='Space::room')
W(C, 'field', 'roomed', 'is_reserved', [CORE])
FILE(C, CORE + 'src/space/room.rs', CORE + 'src/space/writable_window.rs')
M(C, 'glance', 'get_if_verified', [CORE, FACE, IDX, 'docs/', 'ARCHITECTURE.md'])
W(C, 'type', 'Baseline', 'CheckpointMarks', [CORE])
W(C, 'type', 'Bound', 'CheckpointBound', [CORE + 'src/baseline.rs', ENG + 'checkpoint.rs', ENG + 'recover.rs', CORE + 'src/marks.rs', CORE + 'src/table.rs'], name='baseline::Bound',
  note='`core::ops::Bound` is used elsewhere')
FILE(C, CORE + 'src/baseline.rs', CORE + 'src/mark_checksums.rs')
M(C, 'outlive_baseline', 'accept_later_marks', [CORE])
M(C, 'expect_marks', 'set_checkpoint_marks', [CORE])
M(C, 'adopt_marks', 'map_marks', [CORE])
M(C, 'knows_marks', 'are_marks_known', [CORE])
M(C, 'know_marks', 'load_marks', [CORE, FACE])
M(C, 'look_at_marks', 'find_marks', [CORE])
M(C, 'unmake', 'remove_new_table', [ENG])
M(C, 'undo', 'rollback', [ENG + 'writer.rs', IDX + 'src/ordered/store.rs'], name='WriteGuard::undo, OrderedStore::undo')
M(C, 'store_marks_again', 'rewrite_marks', [CORE])
M(C, 'store_again', 'rewrite', [CORE], name='Marks::store_again')
FILE(C, ENG + 'replay.rs', ENG + 'apply.rs')
H(C, 'method', 'is_child, is_inherited', 'stay', 'plain')
W(C, 'type', 'Space', 'MemoryQuota', [CORE + 'src/storage/'], name='storage::space::Space')
FILE(C, CORE + 'src/storage/space.rs', CORE + 'src/storage/memory_quota.rs')
FILE(C, CORE + 'src/storage/arguments.rs', CORE + 'src/storage/validate.rs')
W(C, 'method', 'reading_holes_takes_space', 'hole_reads_allocate', name='Storage::reading_holes_takes_space')
W(C, 'method', 'stores_may_take_space', 'stores_may_allocate', name='Storage::stores_may_take_space')
W(C, 'fn', 'same_upper', 'match_tag_mask')
W(C, 'fn', 'same_upper_plain', 'match_tag_mask_scalar')
W(C, 'fn', 'same_upper_sse2', 'match_tag_mask_sse2')
M(C, 'carve', 'split_ranges', [CORE + 'src/storage/'])
X(C, 'fn', 'carve', 'split_ranges', [(r'\bcarve(?=\()', 'split_ranges')], [CORE + 'src/storage/locks.rs'])
M(C, 'tell', 'notify_hook', [CORE + 'src/storage/words.rs'])
M(C, 'tell_views', 'notify_views', [CORE + 'src/storage/memory.rs'])
X(C, 'fn', 'told', 'relax_ordering', [(r'\btold(?=\()', 'relax_ordering')], [CORE + 'src/sync/modelled.rs'])
SETA = CORE + ' ' + IDX + 'src/hash/ docs/UNSAFE.md docs/design/ docs/HASH.md'
X(C, 'method', 'set_aside', 'preallocate', [(r'(?<=fn )set_aside\b', 'preallocate'), (r'(?<=\.)set_aside(?=\()', 'preallocate'), (r'(?<=::)set_aside\b', 'preallocate'), (r'\[`set_aside`\]', '[`preallocate`]')], SETA,
  name='FileSystem, Maps, Head, Writer ::set_aside')
W(C, 'field', 'set_aside', 'preallocated', SETA, name='set_aside (flags)')
W(C, 'fn', 'is_set_aside', 'is_preallocated')
W(C, 'type', 'Words', 'AtomicWords', [CORE, IDX, SIM, TOR, 'docs/', '!' + IDX + 'src/ordered/'], name='storage::Words', note='not AtomicMap: it maps nothing')
W(C, 'fn', 'words_in_heap', 'atomic_words_in_heap')
FILE(C, CORE + 'src/storage/words.rs', CORE + 'src/storage/atomic_words.rs')
JUD = [CORE + 'src/predicate/', CORE + 'src/zones/', FACE, TOR + 'src/fuzz/']
W(C, 'type', 'Verdict', 'Pruning', JUD, name='predicate::Verdict')
M(C, 'judge', 'prune', [CORE + 'src/predicate/', 'src/explain.rs', 'src/filter.rs', 'src/parallel.rs'], name='Predicate::judge')
X(C, 'fn', 'judge', 'prune', [(r'(?<![\w.:])judge(?=\()', 'prune'), (r'(?<=judge::\{)judge\b', 'prune'), (r'(?<=, )judge(?=[,}])', 'prune')], [CORE + 'src/predicate/'], name='predicate::judge::judge (fn)')
M(C, 'verdict', 'pruning', [CORE + 'src/predicate/', FACE], name='Condition::verdict')
FILE(C, CORE + 'src/predicate/judge.rs', CORE + 'src/predicate/pruning.rs')
W(C, 'type', 'Facts', 'ZoneStats', [CORE + 'src/', FACE])
M(C, 'facts', 'stats', [CORE + 'src/zones/', CORE + 'src/predicate/', 'src/ordered/scan.rs'], name='Zone::facts')
FILE(C, CORE + 'src/zones/find.rs', CORE + 'src/zones/build.rs')
H(C, 'method', 'OptionalCell::{absent, present}', 'stay', 'plain')

# ---------------------------------------------------------------------------------------------- D: write set, indexes
D = 'D'
W(D, 'type', 'AnyStaging', 'AnyTableWriteSet', [FACE])
W(D, 'type', 'Staging', 'TableWriteSet', [FACE], name='staging::Staging', note='locals and fields `staging` by hand with part B')
W(D, 'type', 'Staging', 'StagedParts', [ENG + 'staged.rs'], name='engine::staged::Staging')
FILE(D, 'src/staging.rs', 'src/write_set.rs')
KEYS = [FACE, '!src/ordered/', '!src/filter.rs', '!src/explain.rs']
for _o, _n in (('Touched', 'Modified'), ('Written', 'Bulk'), ('Applied', 'Committed'), ('Nowhere', 'Absent')):
    X(D, 'variant', _o, _n, [(rf'(?<=Spot::){_o}\b', _n)], KEYS, name=f'keys::Spot::{_o}')
X(D, 'variant', 'Touched', 'Modified', [(r'^(    )Touched\(Touched\),', r'\1Modified(Touched),'), (r'^(    )Written\(RowId\),', r'\1Bulk(RowId),'), (r'^(    )Applied\(Base\),', r'\1Committed(Base),'),
  (r'^(    )Nowhere,', r'\1Absent,')], 'src/keys.rs', name='keys::Spot (definition)')
W(D, 'type', 'Spot', 'KeyLocation', KEYS, name='keys::Spot')
W(D, 'type', 'Spot', 'BlockIndex', [IDX + 'src/ordered/'], name='ordered::directory::Spot')
W(D, 'type', 'Touched', 'PendingChange', KEYS, name='keys::Touched')
W(D, 'type', 'Base', 'PriorVersion', KEYS, name='keys::Base')
X(D, 'type', 'Base', 'AllocatorBase', [(r'(?<![\w:])Base(?!\w)', 'AllocatorBase')], [IDX + 'src/hash/account.rs', IDX + 'src/hash/reserve.rs', IDX + 'src/hash/recover.rs', IDX + 'src/hash/write.rs'], name='hash::account::Base', note='`Kind::Base` is a variant and stays')
W(D, 'type', 'Entry', 'KeyEntry', ['src/keys.rs'], name='keys::Entry')
W(D, 'type', 'Step', 'KeyStep', ['src/keys.rs'], name='keys::Step')
W(D, 'type', 'Step', 'WriteSetStep', ['src/staging.rs'], name='staging::Step')
W(D, 'type', 'Mark', 'WriteSetMark', ['src/staging.rs'], name='staging::Mark')
W(D, 'type', 'Holders', 'UniqueValues', [FACE])
W(D, 'type', 'Holder', 'UniqueEntry', ['src/holders.rs'])
W(D, 'type', 'New', 'PendingRow', ['src/holders.rs', 'src/enforce.rs', 'src/staging.rs'])
W(D, 'field', 'holders', 'unique_values', [FACE])
FILE(D, 'src/holders.rs', 'src/unique_values.rs')
FILE(D, 'src/enforce.rs', 'src/unique_check.rs')
W(D, 'fn', 'has_twins', 'has_duplicates')
W(D, 'fn', 'sorted_has_twins', 'sorted_has_duplicates')
M(D, 'twin', 'check_duplicate', ['src/verify.rs'])
W(D, 'method', 'values_are_alone', 'all_values_distinct')
W(D, 'method', 'check_alone', 'check_distinct')
W(D, 'method', 'resolve_alone', 'resolve_distinct')
for _o, _n in (('keep', 'enable'), ('end', 'clear'), ('note', 'push')):
    X(D, 'method', _o, _n, [(rf'(?<=\blog\.){_o}(?=\()', _n)], ['src/keys.rs', 'src/holders.rs', 'src/own.rs', 'src/staging.rs', 'src/unique.rs'], name=f'undo::Log::{_o}')
    X(D, 'method', _o, _n, [(rf'(?<=fn ){_o}(?=\(&mut self)', _n)], 'src/undo.rs', name=f'undo::Log::{_o} (definition)')
W(D, 'method', 'pop_to', 'pop_until', [FACE])
W(D, 'type', 'Log', 'UndoLog', ['src/undo.rs', 'src/keys.rs', 'src/holders.rs', 'src/own.rs', 'src/staging.rs', 'src/unique.rs', 'src/ordered/'])
W(D, 'field', 'kept', 'enabled', ['src/undo.rs'])
FILE(D, 'src/undo.rs', 'src/undo_log.rs')
H(D, 'field', 'place', 'index, slot, offset', '818 lines, an index, a file position, a table column, a location: case by case; `Place` types under F')
W(D, 'const', 'AHEAD', 'PREFETCH_DISTANCE', [FACE])
W(D, 'const', 'NEAR', 'VERSION_PROBE_LIMIT', ['src/versions.rs', 'src/read.rs', 'src/table_mut.rs', 'src/staging.rs', 'src/ordered/'], name='versions::NEAR')
W(D, 'const', 'NEAR', 'ENTRY_PROBE_LIMIT', ['src/unique.rs'], name='unique::NEAR')
W(D, 'const', 'STRIDE', 'PROGRESS_INTERVAL', ['src/verify.rs'])
W(D, 'const', 'SHORT', 'INLINE_KEY_LEN', ['src/key_bytes.rs'])
W(D, 'const', 'MOST', 'MAX_LOCKED', [CORE + 'src/fork.rs'], name='fork::MOST')
W(D, 'const', 'MOST', 'MAX_OPEN_FILES', [CORE + 'src/storage/', ENG + 'open.rs'], name='storage::MOST')
W(D, 'const', 'MOST', 'MAX_EXECUTIONS', [CORE + 'src/sync/explore.rs'], name='sync::explore::MOST')
W(D, 'const', 'MOST', 'MAX_CHANGES', [TOR + 'src/fuzz/damage.rs'], name='fuzz::damage::MOST')
W(D, 'const', 'QUICK', 'MAX_QUICK_VALUES', [CORE + 'src/predicate/compare.rs'])
W(D, 'const', 'SHOWN', 'MAX_SHOWN_VALUES', [CORE + 'src/predicate/compare.rs'])
X(D, 'fn', 'beside', 'seal_zone_maps', [(r'\bbeside\b', 'seal_zone_maps')], 'src/store.rs', name='store::beside')
W(D, 'type', 'Beside', 'AfterCatchUp', ['src/ordered/keeper.rs'])
W(D, 'field', 'beside', 'after_catch_up', ['src/ordered/keeper.rs'])
W(D, 'fn', 'beside', 'sibling', [IDX + 'src/ordered/in_sled.rs', IDX + 'src/ordered/sled_folder.rs'])
X(D, 'fn', 'differs', 'describe_option_conflicts', [(r'(?<=fn )differs\b', 'describe_option_conflicts'), (r'(?<![\w.])differs(?=\()', 'describe_option_conflicts'), (r'(?<=\.)differs(?=\()', 'describe_option_conflicts')], 'src/store.rs', name='store::differs')
H(D, 'fn', 'store::Handle::compare', 'ensure_same_layout', '`compare` is used 110 times: rename in src/store.rs and its callers with the move to shared.rs')
for _o, _n in (('Nowhere', 'Disabled'),):
    X(D, 'variant', _o, _n, [(r'(?<=Home::)Nowhere\b', 'Disabled'), (r'^(\s+)Nowhere\(Option', r'\1Disabled(Option')], [FACE], name='Home::Nowhere')
W(D, 'type', 'Home', 'IndexStorage', [FACE], name='ordered::Home')
W(D, 'method', 'has_home', 'is_enabled')
W(D, 'type', 'Worth', 'CatchUp', [FACE])
for _o, _n, _d in (('NotYet', 'Closed', r'^(    )NotYet,'), ('Here', 'Open', r'^(    )Here\('), ('Refused', 'Unavailable', r'^(    )Refused \{'), ('Gone', 'Detached', r'^(    )Gone,')):
    X(D, 'variant', _o, _n, [(rf'(?<=Held::){_o}\b', _n), (_d, r'\1' + _n + _d[len(r'^(    )') + len(_o):].replace('\\', ''))], 'src/ordered/mod.rs', name=f'ordered::Held::{_o}')
W(D, 'type', 'Held', 'OpenState', ['src/ordered/mod.rs'], name='ordered::Held')
W(D, 'method', 'note_doubt', 'record_corruption', [FACE])
M(D, 'doubt', 'handle_corruption', [FACE])
W(D, 'fn', 'put_aside', 'quarantine_blocks', [FACE])
W(D, 'method', 'unlisted', 'index_uncached', [FACE], distinct=False)
M(D, 'contradiction', 'check_watermark', [FACE])
W(D, 'type', 'Flow', 'MergeIter', ['src/ordered/stream.rs'])
W(D, 'type', 'BlockSide', 'BlockSource', [FACE])
W(D, 'type', 'RunSide', 'RunSource', [FACE])
W(D, 'type', 'SideError', 'SourceError', [FACE])
FILE(D, 'src/ordered/sides.rs', 'src/ordered/sources.rs')
W(D, 'type', 'Sight', 'IndexedView', ['src/range.rs'], name='range::Sight (alias)')
W(D, 'type', 'Sight', 'ReadPoint', [IDX, 'src/ordered/', 'docs/'], name='pongo_index::ordered::Sight')
M(D, 'sight', 'read_point', ['src/ordered/'])
W(D, 'type', 'One', 'SingleRow', ['src/range.rs'])
W(D, 'type', 'NoHeap', 'EmptyHeap', ['src/range.rs'])
W(D, 'const', 'TOO_MANY_UNTOLD', 'MAX_AMBIGUOUS', [IDX])
W(D, 'const', 'UNTOLD', 'MAX_AMBIGUOUS_PER_BLOCK', [IDX])
W(D, 'field', 'untold', 'ambiguous', [IDX])
M(D, 'absorb', 'extend_from', [IDX])
M(D, 'learn', 'load_full_keys', [IDX])
W(D, 'type', 'Gathered', 'MergeBuffer', [IDX])
FILE(D, IDX + 'src/ordered/gather.rs', IDX + 'src/ordered/merge_buffer.rs')
M(D, 'cuts', 'truncation_bits', [IDX + 'src/ordered/block.rs'])
X(D, 'field', 'cut', 'is_truncated', [(r'(?<=\.)cut\b(?!\()', 'is_truncated'), (r'\bcut(?=: )', 'is_truncated')], [IDX + 'src/ordered/block.rs', IDX + 'src/ordered/gather.rs', IDX + 'src/ordered/merge.rs'], name='ordered::block::Item::cut')
FILE(D, IDX + 'src/ordered/in_sled.rs', IDX + 'src/ordered/sled_store.rs')
FILE(D, IDX + 'src/ordered/blocks.rs', IDX + 'src/ordered/block_store.rs')
W(D, 'type', 'Writer', 'SegmentAllocator', [IDX + 'src/hash/'], name='hash::account::Writer')
W(D, 'type', 'Head', 'IndexHeader', [IDX + 'src/hash/', 'docs/UNSAFE.md', 'docs/design/', 'docs/HASH.md'], name='hash::head::Head')
FILE(D, IDX + 'src/hash/account.rs', IDX + 'src/hash/allocator.rs')
FILE(D, IDX + 'src/hash/head.rs', IDX + 'src/hash/header.rs')
H(D, 'field', 'hash: top, piece', 'stay', '"directory" is taken twice (block directory of pongo-index::ordered, folders); names of files on disk begin with them; HASH.md defines both')

# ---------------------------------------------------------------------------------------------- F: one word, several types
G = 'F'
W(G, 'type', 'Snapshot', 'EngineSnapshot', [CORE, 'src/ordered/sides.rs'], name='pongo_core::snapshot::Snapshot')
X(G, 'type', 'Snapshot', 'EngineSnapshot', [(r'(?<=\bsnapshot::)Snapshot\b', 'EngineSnapshot')], [FACE, TOR, IDX], name='pongo_core::snapshot::Snapshot (by path)',
  note='aliases `Snapshot as CoreSnapshot` become `EngineSnapshot as ..`: tidy by hand')
W(G, 'type', 'State', 'StoreState', [CORE + 'src/state.rs', ENG, CTL, CORE + 'src/loom_control.rs', CORE + 'src/snapshot.rs', CORE + 'src/journal/', CORE + 'src/table.rs', CORE + 'tests/'],
  name='pongo_core::state::State', note='private State types of open_files, ordered::store, ordered::index, disk, faults stay')
W(G, 'type', 'Cursor', 'BlockCursor', [IDX, 'src/ordered/sides.rs'], name='pongo_index::ordered::Cursor')
W(G, 'type', 'Kind', 'OpKind', [SIM, CORE + 'tests/engine/', '!' + CORE + 'tests/engine/filled.rs', '!' + CORE + 'tests/engine/model.rs', TOR + 'tests/faults/regress.rs'], name='pongo_sim::Kind', note='where both are used (pongo_core::schema::Kind in tests/engine/model.rs) by hand')
W(G, 'type', 'Kind', 'SafeguardKind', [TOR + 'src/safeguards.rs', TOR + 'src/bin/removed/'], name='pongo_crashtest::safeguards::Kind')
W(G, 'type', 'Kind', 'SegmentKind', [IDX + 'src/hash/'], name='hash::layout::Kind')
W(G, 'type', 'Change', 'TableChange', [CORE, FACE], name='pongo_core::engine::Change')
W(G, 'type', 'Stats', 'HashStats', [IDX, FACE], name='pongo_index::Stats')
W(G, 'type', 'Identity', 'IndexIdentity', [IDX, FACE], name='pongo_index::Identity')
W(G, 'type', 'View', 'SpaceView', [CORE + 'src/space/', CORE + 'src/table.rs', CORE + 'src/heap.rs', CORE + 'src/snapshot.rs', ENG, CORE + 'src/zones/'], name='space::View')
W(G, 'type', 'View', 'HashView', [IDX + 'src/hash/'], name='hash::read::View')
W(G, 'type', 'Segment', 'JournalSegment', [CORE + 'src/journal/'], name='journal::Segment')
W(G, 'type', 'Writer', 'WriterState', [CORE + 'src/engine/'], name='engine::writer::Writer')
W(G, 'type', 'Reader', 'ByteReader', [CORE + 'src/codec.rs', CORE + 'src/journal/', CORE + 'src/zones/', CORE + 'src/superblock.rs', CORE + 'src/marks.rs', CORE + 'src/heap.rs', CORE + 'src/space/chunk.rs'], name='codec::Reader')
W(G, 'type', 'Reader', 'KindParser', [CORE + 'src/schema/kind.rs'], name='schema::kind::Reader')
W(G, 'type', 'Block', 'PageBlock', [CORE + 'src/storage/'], name='storage::block::Block')
W(G, 'type', 'Extent', 'RowExtent', [CORE + 'src/marks.rs', CORE + 'src/table.rs', CORE + 'src/space/mod.rs'], name='marks::Extent')
W(G, 'type', 'Held', 'HeldLock', [CORE + 'src/storage/locks.rs'], name='storage::locks::Held')
W(G, 'type', 'Held', 'CachedLeaf', [IDX + 'src/ordered/cache.rs'], name='ordered::cache::Held')
W(G, 'type', 'Held', 'OpenIndex', [IDX + 'src/ordered/store.rs'], name='ordered::store::Held')
W(G, 'type', 'Held', 'MemoryState', [IDX + 'src/ordered/blocks.rs'], name='ordered::blocks::Held')
W(G, 'type', 'Words', 'WordReader', [IDX + 'src/ordered/root.rs'], name='ordered::root::Words')
W(G, 'type', 'Known', 'KnownChunks', [CORE + 'src/space/mod.rs'], name='space::Known')
W(G, 'type', 'Ordered', 'OrderedIndexes', [FACE, '!src/filter.rs', '!src/lib.rs'], name='ordered::Ordered', note='pongo_core::predicate::Ordered is a public trait and stays')
W(G, 'type', 'Shared', 'SharedStore', [FACE], name='store::Shared')
W(G, 'type', 'Handle', 'TableHandle', [FACE], name='store::Handle')
W(G, 'type', 'Handle', 'FileHandle', [SIM], name='pongo_sim::handle::Handle')
W(G, 'type', 'Point', 'SavepointEntry', ['src/savepoint.rs'], name='savepoint::Point')
W(G, 'type', 'Found', 'UniqueMatch', ['src/unique.rs'], name='unique::Found')
W(G, 'type', 'Plan', 'ZonePlan', [CORE + 'src/zones/', CORE + 'src/table.rs'], name='zones::Plan')
W(G, 'type', 'Root', 'HashRoot', [IDX + 'src/hash/'], name='hash::layout::Root')
W(G, 'type', 'Root', 'IndexRoot', [IDX + 'src/ordered/'], name='ordered::root::Root')
W(G, 'type', 'Image', 'SegmentImage', [IDX + 'src/hash/'], name='hash::segment::Image')
W(G, 'type', 'Image', 'FuzzImage', [TOR + 'src/fuzz/'], name='fuzz::image::Image', note='fuzz/image.rs also names pongo_sim::Image by path: check')
H(G, 'type', 'private types used in one file (State x5, Place x9, Step, Part, Run, Plain, Entry, Found, Item)', 'stay',
  'private to one module or test, never imported; the issue asks for the public and cross-crate API only')

# ---------------------------------------------------------------------------------------------- E: test crates
E = 'E'
SIMU = [SIM, TOR, CORE + 'tests/', IDX + 'tests/', T, 'fuzz/']
W(E, 'type', 'Leave', 'CrashPolicy', SIMU, name='pongo_sim::Leave')
W(E, 'type', 'Draw', 'CrashSampler', [SIM])
FILE(E, SIM + 'src/leave.rs', SIM + 'src/crash_policy.rs')
W(E, 'type', 'Past', 'FileHistory', [SIM])
W(E, 'type', 'Content', 'FileContent', [SIM])
M(E, 'settle', 'apply_policy', [SIM], name='Past::settle')
FILE(E, SIM + 'src/past.rs', SIM + 'src/file_history.rs')
X(E, 'type', 'Moment', 'DiskEvent', [(r'(?<![\w\'])Moment(?!\w)', 'DiskEvent')], [SIM, TOR + 'src/', TOR + 'tests/again.rs', TOR + 'tests/cuts.rs', TOR + 'tests/cuts_twice.rs', TOR + 'tests/cuts_after_kills.rs', TOR + 'tests/closed.rs',
  CORE + 'tests/'], name='pongo_sim::Moment', note='tests/kill.rs and torture tests/live have their own')
FILE(E, SIM + 'src/watch.rs', SIM + 'src/observer.rs')
W(E, 'type', 'NameBook', 'DirentHistory', [SIM])
FILE(E, SIM + 'src/names.rs', SIM + 'src/dirents.rs')
M(E, 'quietly', 'without_faults', SIMU)
M(E, 'lose_unsynced', 'drop_unsynced', [SIM])
M(E, 'reboot', 'power_cycle', SIMU, name='Disk::reboot', note='parameters `reboot: bool` stay')
W(E, 'type', 'Again', 'Repeat', SIMU, name='pongo_sim::Again')
X(E, 'field', 'again', 'repeat', [(r'(?<=pub )again(?=: )', 'repeat'), (r'\bagain(?=: (?:Again|Repeat)\b)', 'repeat'), (r'(?<=fault\.)again\b', 'repeat'), (r'(?<=partly, )again(?=[ ,}])', 'repeat'),
  (r'(?<=partly: false, )again(?=[ ,}])', 'repeat')], [SIM + 'src/faults.rs', TOR + 'tests/'], name='pongo_sim::Fault::again', note='shorthand `again` in patterns: compile and fix')
X(E, 'type', 'Plan', 'FaultPlan', [(r'(?<![\w\'])Plan(?!\w)', 'FaultPlan')], [SIM, CORE + 'tests/engine/', TOR + 'tests/again.rs', TOR + 'tests/faults/', TOR + 'src/fuzz/operations.rs', TOR + 'src/life.rs'],
  name='pongo_sim::Plan', note='where pongo_crashtest::Plan is imported too, by hand')
W(E, 'type', 'Plan', 'CutPlan', [TOR + 'src/cutter.rs', TOR + 'src/lib.rs', TOR + 'tests/cuts.rs', TOR + 'tests/cuts_twice.rs', TOR + 'tests/cuts_after_kills.rs', TOR + 'tests/closed.rs'], name='pongo_crashtest::Plan')
W(E, 'type', 'Book', 'ExpectedStates', [TOR], name='pongo_crashtest::Book', note='History is taken in tests/live')
W(E, 'type', 'Life', 'StoreDriver', [TOR], name='pongo_crashtest::Life')
FILE(E, TOR + 'src/book.rs', TOR + 'src/expected_states.rs')
FILE(E, TOR + 'src/life.rs', TOR + 'src/driver.rs')
X(E, 'type', 'Look', 'Differences', [(r'(?<![\w\':])Look(?!\w)', 'Differences'), (r'(?<=look::)Look\b', 'Differences'), (r'(?<=pongo_crashtest::)Look\b', 'Differences')],
  [TOR, '!' + TOR + 'src/cut.rs', '!' + TOR + 'tests/faults/work.rs'], name='pongo_crashtest::Look', note='`Depth::Look` of cut.rs and a variant of tests/faults/work.rs stay')
X(E, 'type', 'World', 'StoreModel', [(r'(?<![\w\'])World(?!\w)', 'StoreModel')], [TOR + 'src/', TOR + 'tests/again.rs', TOR + 'tests/closed.rs', TOR + 'tests/cuts.rs', TOR + 'tests/cuts_twice.rs', TOR + 'tests/cuts_after_kills.rs',
  TOR + 'tests/faults/', TOR + 'tests/fuse.rs', TOR + 'tests/kills.rs', TOR + 'tests/kills/', TOR + 'tests/live/', TOR + 'tests/power.rs', TOR + 'tests/rot.rs', TOR + 'tests/rot/', TOR + 'tests/world.rs', TOR + 'tests/corpora.rs'],
  name='pongo_crashtest::World', note='World of tests/format/written.rs, tests/alloc.rs and of pongo-bench are others; tests/upgrade.rs uses the one of written.rs')
W(E, 'type', 'Choice', 'RandomSource', [TOR, 'fuzz/'], name='pongo_crashtest::Choice')
W(E, 'method', 'make_up', 'arbitrary', [TOR, CORE + 'tests/engine/'], name='Transaction::make_up, Life::make_up')
M(E, 'perform', 'apply', [TOR + 'src/', TOR + 'tests/again.rs', TOR + 'tests/closed.rs', TOR + 'tests/faults/', TOR + 'tests/live/', TOR + 'tests/rot/', TOR + 'tests/world.rs', TOR + 'tests/kills.rs'], name='Transaction::perform')
M(E, 'foresee', 'predict', [TOR + 'src/'])
M(E, 'is_honest', 'assert_no_wrong_answers', [TOR])
M(E, 'is_right', 'assert_ok', [TOR])
ET = CORE + 'tests/engine/'
for _o, _n in (('missed', 'mutation_gaps'), ('mixed_up', 'swapped_files'), ('unreadable', 'io_errors'), ('filled', 'alloc_in_place'), ('rot', 'corruption'), ('room', 'reserved_space'), ('life', 'lifecycle')):
    FILE(E, ET + _o + '.rs', ET + _n + '.rs', kind='test file')
FILE(E, TOR + 'tests/again.rs', TOR + 'tests/regressions.rs', kind='test file', note='target name: suites.rs, justfile, docs')
FILE(E, 'tests/ordered_harm.rs', 'tests/ordered_corruption.rs', kind='test file', note='with its folder tests/ordered_harm/')
FILE(E, 'tests/bad_input/house.rs', 'tests/bad_input/fixtures.rs', kind='test file')
H(E, 'test file', 'tests/bad_input, torture tests/rot', 'corrupt_input, corruption', 'the same scheme as ordered_harm; left out: `just`, .ci and docs name `rot` in prose, and seeds/evidence folders are named after the target')
S(E, '"mixed_up", "missed", "closed", "rot"', '"swapped_files", "mutation_gaps", "closed", "rot", "corruption"', TOR + 'src/bin/removed/suites.rs', 'words in names of tests')
S(E, '&["missed", "closed", "cut"', '&["mutation_gaps", "closed", "cut"', TOR + 'src/bin/removed/suites.rs', 'words in names of tests')
S(E, '"loom", "missed", "process"', '"loom", "mutation_gaps", "process"', TOR + 'src/bin/removed/suites.rs', 'words in names of tests')
S(D, '"/hash/account.rs"', '"/hash/allocator.rs"', IDX + 'tests/loom_hash.rs', 'this test compares the file of a site')
H(E, 'test', 'sentence test names', 'two to six words', 'by hand; suites.rs and docs/removed.md name tests (regenerated)')


# ---------------------------------------------------------------------------------------------- machinery
ALIAS = {r.new: r.old for r in RULES if r.how == 'file'}


def in_scope(path, where):
    if path in ALIAS and not OLD_FILES.get(ALIAS[path]):
        path = ALIAS[path]  # renamed by an earlier group
    elif path.startswith('tests/ordered_corruption/'):
        path = path.replace('ordered_corruption', 'ordered_harm')
    for n in NEVER:
        if path.startswith(n):
            return False
    if where is None:
        return True
    ok = False
    for w in where:
        neg = w.startswith('!')
        w = w[1:] if neg else w
        hit = path == w or (w.endswith('/') and path.startswith(w)) or ('*' in w and fnmatch.fnmatch(path, w))
        if hit and neg:
            return False
        ok = ok or hit
    return ok


TOKEN = re.compile(r'''(?P<lc>//[^\n]*)|(?P<bc>/\*.*?\*/)|(?P<raw>b?c?r(?P<h>\#*)".*?"(?P=h))|(?P<str>[bc]?"(?:\\.|[^"\\])*")|(?P<ch>b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])')''', re.S)


def split_rust(text):
    "Yields (kind, text): code, prose (comment), doccode, string."
    out, at, fence = [], 0, False
    for m in TOKEN.finditer(text):
        if m.start() > at:
            code = text[at:m.start()]
            if code.count('\n') > 1 or re.search(r'\S', code):
                fence = False
            out.append(('code', code))
        at = m.end()
        if m['lc'] is not None or m['bc'] is not None:
            c = m[0]
            if re.match(r'//[/!]?\s*(?:\* )?```', c):
                fence = not fence
                out.append(('prose', c))
            else:
                out.append(('doccode' if fence else 'prose', c))
        elif m['ch'] is not None:
            out.append(('string', m[0]))
        else:
            out.append(('string', m[0]))
    out.append(('code', text[at:]))
    return out


def split_md(text):
    out, fence = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith('```'):
            fence = not fence
            out.append(('prose', line))
        else:
            out.append(('doccode' if fence else 'prose', line))
    return out


TICKS = re.compile(r'(`[^`\n]+`(?:\]\([^)\n]*\))?)')


class Count:
    def __init__(self):
        self.n = collections.Counter(); self.files = set(); self.left = collections.Counter()


def apply_rule(rule, parts, count, path):
    res = []
    pats = [(re.compile(p, re.M), r) for p, r in rule.pats]

    def sub(s, kind):
        for p, r in pats:
            s, n = p.subn(r, s)
            if n:
                count.n[kind] += n; count.files.add(path)
        return s
    cap = re.compile(r'(?<!\{)\{' + re.escape(rule.old) + r'(?=[}:])')
    word = re.compile(r'(?<!\w)' + re.escape(rule.old) + r'(?!\w)')
    last = ''
    link = re.compile(r'(?<=\[`)' + re.escape(rule.old) + r'(?=(?:\(\))?`\]\([^)\n]*\b' + re.escape(rule.new) + r'\))')
    for kind, s in parts:
        if rule.how == 'literal':
            s = sub(s, kind)
        elif kind in ('code', 'doccode'):
            s = sub(s, kind)
        elif kind == 'prose':
            if rule.distinct:
                s = sub(s, kind)
            elif '`' in s:
                s = ''.join(sub(t, kind) if t.startswith('`') else t for t in TICKS.split(s))
            s, k = link.subn(rule.new, s)
            if k:
                count.n['link'] += k; count.files.add(path)
            if rule.how == 'word':
                count.left['prose'] += len(word.findall(s)) if rule.old != rule.new else 0
        elif kind == 'string':
            if rule.kind == 'type' and s == f'"{rule.old}"' and re.search(r'debug_(?:struct|tuple)\($', last):
                s = f'"{rule.new}"'; count.n['debug'] += 1; count.files.add(path)
            if rule.how == 'word':
                s, n = cap.subn('{' + rule.new, s)
                if n:
                    count.n['capture'] += n; count.files.add(path)
            count.left['string'] += len(word.findall(s))
        res.append((kind, s))
        last = s
    return res


def git(repo, *a):
    return subprocess.run(['git', '-C', repo, *a], capture_output=True, text=True, check=True).stdout


OLD_FILES = {}


def load(repo):
    fs = [f for f in git(repo, 'ls-files').split('\n') if f]
    OLD_FILES.update((f, True) for f in fs)
    return fs, {f: open(os.path.join(repo, f), encoding='utf-8').read() for f in fs
                if (f.endswith(('.rs', '.md', '.stderr')) or f in ('justfile', '.ci/run', 'Cargo.toml')) and os.path.isfile(os.path.join(repo, f)) and not os.path.islink(os.path.join(repo, f))}


def module_rules(rule):
    "The mentions of a renamed source file: mod lines, paths, module names in backticks of the same crate, path texts."
    old, new = rule.old, rule.new
    o, n = os.path.basename(old)[:-3], os.path.basename(new)[:-3]
    crate = re.match(r'(crates/[^/]+/(?:src|tests(?:/engine)?)/|src/|tests/)', old)[1]
    return o, n, crate


def rename_files(rules, texts, counts, moves, all_files):
    for rule in rules:
        o, n, crate = module_rules(rule)
        c = counts[rule]
        folder = rule.old[:-3] + '/'
        ms = [(rule.old, rule.new)] + [(f, rule.new[:-3] + f[len(folder) - 1:]) for f in all_files if f.startswith(folder)]
        parent = os.path.dirname(rule.old) + '/'
        is_target = rule.kind == 'test file' and re.fullmatch(r'(crates/[^/]+/)?tests/', parent)
        mod = re.compile(rf'^(\s*(?:pub(?:\([^)]*\))? )?mod ){o}(?=;)', re.M)
        root = re.match(r'(crates/[^/]+/(?:src|tests/engine)/|src/|(?:crates/[^/]+/)?tests/(?:[^/]+/)?)', rule.old)[1]
        mods = ''.join(x + '::' for x in parent[len(root):].split('/') if x)
        use = re.compile(rf'(?<![\w:.\'"])(crate::{mods}){o}(?=::|;|,)')
        usep = re.compile(rf'(?<![\w:.\'"])((?:super::|self::)){o}(?=::|;|,)')
        bare = re.compile(rf'(?<![\w:.\'"]){o}(?=::[A-Za-z{{*])')
        group = re.compile(rf'(?<=[{{ ,]){o}(?=::)')
        tick = re.compile(rf'(?<=`){o}(?=(?:\.rs)?`)')
        pathtext = re.compile(r'(?<![\w-])' + r'((?:[\w-]+/)*)' + re.escape(os.path.basename(parent.rstrip('/')) + '/' + o) + r'(?=\.rs|/[\w]+\.rs)')
        for f in list(texts):
            if f in NEVER or any(f.startswith(x) for x in NEVER):
                continue
            t = texts[f]; s = t
            if f.endswith('.rs'):
                near = os.path.dirname(f) + '/' == parent or f.startswith(folder) or f in (parent.rstrip('/') + '.rs',)
                if near and not is_target:
                    s, k = mod.subn(rf'\g<1>{n}', s); c.n['mod'] += k
                if f.startswith(crate) and not is_target:
                    parts = split_rust(s)
                    res = []
                    for kind, p in parts:
                        if kind in ('code', 'doccode'):
                            p, k = use.subn(rf'\g<1>{n}', p); c.n['use'] += k
                            if near:
                                p, k = usep.subn(rf'\g<1>{n}', p); c.n['use'] += k
                                p, k = bare.subn(n, p); c.n['use'] += k
                        elif kind == 'prose' and near:
                            p, k = tick.subn(n, p); c.n['prose'] += k
                        res.append((kind, p))
                    s = ''.join(p for _, p in res)
            base_old, base_new = os.path.basename(rule.old), os.path.basename(rule.new)
            # path texts: `dir/old.rs` that end the renamed path
            for m in set(re.findall(r'[\w./-]*' + re.escape(o) + r'(?:\.rs|/[\w-]+\.rs)', s)):
                tail = m.lstrip('./')
                full_old = [a for a, _ in ms]
                for a, b in ms:
                    if (a == tail or a.endswith('/' + tail)) and '/' in tail:
                        k = s.count(m)
                        s = s.replace(m, m.replace(tail, b[len(a) - len(tail) + (0 if len(a) == len(b) else 0):] if len(a) == len(b) else '/'.join(b.split('/')[-tail.count('/') - 1:])))
                        c.n['path'] += k
            if is_target:
                pkg = {'dev/crashtest/': 'pongo-crashtest', '': 'pongo'}.get(parent[:-len('tests/')], '')
                s, k = re.subn(rf'\("{pkg}", "{o}"\)', f'("{pkg}", "{n}")', s); c.n['path'] += k
                s, k = re.subn(rf'(?<=--test ){o}(?!\w)', n, s); c.n['path'] += k
            # #[path = "..."] relative to the file
            def rel(m):
                at = os.path.normpath(os.path.join(os.path.dirname(f), m[1]))
                for a, b in ms:
                    if at == a:
                        c.n['#[path]'] += 1
                        return '#[path = "%s"]' % os.path.relpath(b, os.path.dirname(f))
                return m[0]
            s = re.sub(r'#\[path = "([^"]+)"\]', rel, s)
            if s != t:
                texts[f] = s; c.files.add(f)
        moves.extend(ms)


def run(repo, args):
    all_files, texts = load(repo)
    before = dict(texts)
    rules = [r for r in RULES if (not args.only or r.group in args.only.split(',')) and r.old not in (args.skip or '').split(',')]
    counts = {r: Count() for r in rules}
    words0 = {f: collections.Counter(re.findall(r'\w+', ''.join(s for k, s in split_rust(t) if k == 'code'))) for f, t in texts.items() if f.endswith('.rs')}
    for r in rules:
        if r.how in ('hand', 'file'):
            continue
        scope = [f for f in texts if in_scope(f, r.where) and f.endswith(('.rs', '.md', '.stderr'))]
        quick = r.old if r.how != 'patterns' else None
        for f in scope:
            if quick and quick not in texts[f]:
                continue
            if r.how == 'patterns' and not any(re.search(p, texts[f], re.M) for p, _ in r.pats):
                continue
            if r.how == 'literal':
                parts = [('string', texts[f])]
                texts[f] = ''.join(x for _, x in apply_rule(r, parts, counts[r], f)); continue
            parts = split_rust(texts[f]) if f.endswith('.rs') else split_md(texts[f]) if f.endswith('.md') else [('code' if r.distinct else 'string', texts[f])]
            texts[f] = ''.join(s for _, s in apply_rule(r, parts, counts[r], f))
    moves = []
    rename_files([r for r in rules if r.how == 'file' and (r.old in all_files or r.new not in all_files)], texts, counts, moves, all_files)
    return rules, counts, texts, before, moves, words0, all_files


def collisions(rules, counts, words0):
    for r in rules:
        if r.how in ('hand', 'file', 'literal') or r.old == r.new:
            continue
        hit = [f'{f} ({words0[f][r.new]})' for f in sorted(counts[r].files) if f in words0 and words0[f][r.new]]
        if hit:
            print(f'  {r.name} -> {r.new}: already in {", ".join(hit[:8])}')


DEFS = {'type': r'(?:struct|enum|trait|type|union)\s+%s\b', 'method': r'fn\s+%s\b', 'fn': r'fn\s+%s\b', 'const': r'const\s+%s\b',
        'field': r'^\s*(?:pub(?:\([^)]*\))?\s+)?(?:fn\s+|const\s+)?%s\b(?:\s*[:(<])', 'variant': r'^\s+%s\b\s*(?:\{|\(|,)', 'parameter': r'\b%s:'}


def defined(rule, before):
    if rule.how == 'hand':
        return ''
    if rule.how == 'file':
        return rule.old
    if rule.how == 'literal':
        return ''
    p = re.compile(DEFS.get(rule.kind, r'\b%s\b') % re.escape(rule.old), re.M)
    lasts = [f for f in sorted(before) if f.endswith('.rs') and in_scope(f, rule.where)]
    lasts.sort(key=lambda f: ('pongo-bench' in f, not re.search(r'(^|/)src/', f), not f.startswith('src/'), f))
    for f in lasts:
        m = p.search(before[f])
        if m:
            at = m.end() - len(m[0].rstrip()) if False else m.start() + (len(m[0]) - len(m[0].lstrip()))
            return f'{f}:{before[f].count(chr(10), 0, at) + 1}'
    return ''


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--repo', default='/work/main'); ap.add_argument('--apply', action='store_true'); ap.add_argument('--check', action='store_true')
    ap.add_argument('--only'); ap.add_argument('--skip'); ap.add_argument('--diff'); ap.add_argument('--table')
    args = ap.parse_args()
    rules, counts, texts, before, moves, words0, all_files = run(args.repo, args)
    if args.table:
        write_table(args, rules, counts, before); return
    total = 0
    for r in rules:
        if r.how == 'hand':
            continue
        c = counts[r]; k = sum(c.n.values()); total += k
        flag = '' if k or r.old == r.new else '   <-- nothing'
        left = ' '.join(f'left in {a}: {b}' for a, b in c.left.items() if b)
        print(f'{r.group} {k:5} in {len(c.files):3} files  {r.name} -> {r.new}  {dict(c.n)} {left}{flag}')
    changed = [f for f in texts if texts[f] != before[f]]
    print(f'\n{total} replacements in {len(changed)} files, {len(moves)} files moved')
    gone = [a for a, _ in moves if a not in all_files]
    there = [b for _, b in moves if b in all_files]
    print('missing sources:', gone, ' targets that exist:', there)
    if args.check:
        print('\nNames that exist already in a file that is changed (code words):'); collisions(rules, counts, words0)
    if args.diff:
        with open(args.diff, 'w') as out:
            for f in changed:
                out.writelines(difflib.unified_diff(before[f].splitlines(True), texts[f].splitlines(True), f, f, n=0))
    if args.apply:
        if os.path.realpath(args.repo) == '/work/main' and not os.environ.get('RENAMES_MAIN'):
            sys.exit('/work/main: set RENAMES_MAIN=1 to mean it')
        for f in changed:
            with open(os.path.join(args.repo, f), 'w', encoding='utf-8') as out:
                out.write(texts[f])
        for a, b in moves:
            os.makedirs(os.path.dirname(os.path.join(args.repo, b)), exist_ok=True)
            git(args.repo, 'mv', a, b)
        print('applied; next: cargo fmt, cargo check --workspace --all-targets, TRYBUILD=overwrite for tests/ui')


def write_table(args, rules, counts, before):
    uses = {}
    def n_uses(w):
        if w not in uses:
            c = subprocess.run(['git', '-C', args.repo, 'grep', '-wcF', w, '--', '*.rs', '*.md', '*.stderr'], capture_output=True, text=True).stdout.split('\n')
            uses[w] = (sum(int(x.rsplit(':', 1)[1]) for x in c if x), sum(1 for x in c if x))
        return uses[w]
    titles = {'A': 'Public API', 'B': 'Cross-crate', 'C': 'Internal: engine and storage', 'D': 'Internal: write set and indexes', 'E': 'Test crates and test files', 'F': 'F. One word, several types'}
    out = [open('/work/h/ren/head.md').read() if os.path.exists('/work/h/ren/head.md') else '']
    for g in 'ABCDEF':
        out.append(f'\n## {titles[g]}\n\n| kind | old | new | defined at | uses (lines/files) | plain replacement? |\n| --- | --- | --- | --- | --- | --- |\n')
        for r in [r for r in rules if r.group == g]:
            if r.how == 'hand':
                out.append(f'| {r.kind} | {r.name} | {r.new} | | | **hand / no**: {r.note} |\n'); continue
            if r.old == r.new:
                continue
            u = '' if r.how in ('file', 'literal') else '%d/%d' % n_uses(r.old)
            c = counts[r]
            where = '' if r.where is None else ', '.join(f'`{w}`' for w in r.where)
            if r.how == 'file':
                how = f'`git mv`; fixes {sum(c.n.values())} mentions (mod, use, paths)'
            elif r.how == 'literal':
                how = 'literal text in a string'
            elif r.how == 'word':
                how = 'yes, whole workspace' if r.where is None else f'word, only in {where}'
            elif r.how == 'method':
                how = f'`.{r.old}(`, `fn {r.old}`, `::{r.old}` only' + (f', in {where}' if where else '')
            else:
                how = 'patterns by receiver' + (f', in {where}' if where else '')
            if r.how == 'word' and c.left['string']:
                how += f'; {c.left["string"]} in strings stay'
            if r.how == 'word' and c.left['prose'] > 0:
                how += f'; {c.left["prose"]} words of prose stay'
            how += f' ({sum(c.n.values())} replaced)' + (f'. {r.note}' if r.note else '')
            out.append(f'| {r.kind} | `{r.name}` | `{r.new}` | {defined(r, before)} | {u} | {how} |\n')
    open(args.table, 'w').write(''.join(out))
    print(args.table)


if __name__ == '__main__':
    main()
