//! Every safeguard in the source has a name, and the list contains every name.
//!
//! The source is read as text. Each call that syncs or fences, and each comparison with a checksum,
//! must be inside `removable!`, `holds!` or `fails!`, or in the list of exceptions below with a
//! reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pongo_crashtest::safeguards::ALL;

/// Calls that are safeguards wherever they occur.
const CALLS: [&str; 8] =
    ["sync", "sync_dir", "sync_all", "sync_data", "sync_parent", "sync_files", "fence", "page_is_sealed"];

/// Words in names: a comparison with a name that contains such a word compares a checksum, or a
/// found value with an expected one.
const COMPARED: [&str; 8] =
    ["sum", "sums", "checksum", "digest", "fingerprint", "strong_count", "identity", "horizon"];

/// Places that look like safeguards and are not, or that are part of one: file, code, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("pongo-core/src/space/mod.rs", "self.storage.sync_dir(&self.dir)", "each caller is wrapped"),
    ("pongo-core/src/space/bytes.rs", "chunk.sync(&*self.storage)", "each caller is wrapped"),
    (
        "pongo-core/src/space/chunk.rs",
        "file.sync().map_err(StorageError::io(StorageError::SYNCING",
        "each caller is wrapped",
    ),
    (
        "pongo-core/src/marks.rs",
        "self.words.sync().map_err(StorageError::io(StorageError::SYNCING",
        "each caller is wrapped",
    ),
    ("pongo-core/src/space/chunk.rs", "if sums.len() as u64 == first", "says how far checksums were read"),
    (
        "pongo-core/src/storage/atomic_words.rs",
        "self.syncer.as_ref().map_or(Ok(()), |syncer|",
        "each caller is wrapped",
    ),
    ("pongo-core/src/space/view.rs", "self.sums_read.load", "says how far checksums were read"),
    ("pongo-core/src/codec.rs", "Some(checksum(content))", "`page_is_sealed`: each caller is wrapped"),
    ("pongo-core/src/journal/entry.rs", "if sum == 0", "makes a checksum that is never zero"),
    ("pongo-core/src/engine/checkpoint.rs", "sum != no_marks()", "leaves out chunks without marks"),
    ("pongo-core/src/schema/stored.rs", "digest.size == size_of", "the length of a field, not a digest"),
    ("pongo-core/src/schema/diff.rs", "stored.fingerprint() == program", "the program's type, not rot"),
    ("pongo-index/src/hash/maps.rs", "sync(&self.pieces[piece]", "a closure, and the sync in it is wrapped"),
    ("pongo-index/src/hash/maps.rs", "sync(&self.tops[bits", "a closure, and the sync in it is wrapped"),
    ("pongo-index/src/hash/recover.rs", "writer.view.maps.sync(", "each sync in it is wrapped"),
    ("pongo-index/src/hash/recover.rs", "self.head.sync()?", "the sync in it is wrapped"),
    ("pongo-index/src/ordered/cache.rs", "held.sum == entry.sum", "a block in memory, looked up by its sum"),
    ("pongo-index/src/ordered/sled_store.rs", "Self::sync_files(file, ", "each sync in it is wrapped"),
    ("pongo-index/src/ordered/sled_store.rs", "Self::sync_files(&self", "each sync in it is wrapped"),
    ("pongo-index/src/ordered/sled_folder.rs", "File::open(parent)?.sync_all()", "each caller is wrapped"),
    ("src/index/hash.rs", "index.sync(table.version_stamp())", "each sync in it is wrapped"),
];

/// One product file: its path in the repository, and its text without comment lines and test
/// modules.
struct Source {
    path: String,
    text: String,
    /// Ranges of the text inside `removable!`, `holds!` and `fails!`.
    wrapped: Vec<std::ops::Range<usize>>,
    names: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns all product files, without tests and without the files of the storage layer, which
/// implements the syncs, except for two of them that manage space.
fn sources() -> Vec<Source> {
    let root = repository();
    let mut found = Vec::new();
    for folder in ["pongo-core/src", "pongo-index/src", "src"] {
        files(&root.join(folder), &mut found);
    }
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("below the root").display().to_string();
    let left_out = |path: &str| {
        path.starts_with("pongo-core/src/storage/")
            && !["file_system.rs", "words.rs"].iter().any(|name| path.ends_with(name))
            || path.ends_with("/tests.rs")
            || path == "pongo-core/src/guard.rs"
            // Contains fences of the model checker, not of the store.
            || path == "pongo-core/src/sync/modelled.rs"
    };
    found
        .iter()
        .filter(|path| !left_out(&name(path)))
        .map(|path| Source::new(name(path), &fs::read_to_string(path).expect("a source file")))
        .collect()
}

impl Source {
    fn new(path: String, text: &str) -> Source {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let text: String = text.lines().filter(code).flat_map(|line| [line, "\n"]).collect();
        let mut source = Source { path, text, wrapped: Vec::new(), names: Vec::new() };
        for word in ["removable!(", "holds!(", "fails!("] {
            for (at, _) in source.text.match_indices(word) {
                let open = at + word.len();
                let mut depth = 1;
                let end = source.text[open..].find(|c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth == 0
                });
                let end = open + end.unwrap_or_else(|| panic!("{}: `{word}` without an end", source.path));
                let name = source.text[open..end]
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next());
                source.names.push(name.unwrap_or_else(|| panic!("{}: no name", source.path)).to_owned());
                source.wrapped.push(open..end);
            }
        }
        source
    }

    fn is_wrapped(&self, at: usize) -> bool {
        self.wrapped.iter().any(|range| range.contains(&at))
    }

    /// Returns the positions of all safeguards, with and without a name.
    fn safeguards(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let bytes = self.text.as_bytes();
        for call in CALLS {
            for (at, _) in self.text.match_indices(&format!("{call}(")) {
                let before = self.text[..at].trim_end();
                let is_whole = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
                let is_made_here =
                    before.strip_suffix("fn").is_some_and(|rest| !rest.ends_with(char::is_alphanumeric));
                if is_whole && !is_made_here {
                    found.push(at);
                }
            }
        }
        for sign in ["== ", "!= ", "strong_count() "] {
            found
                .extend(self.text.match_indices(sign).map(|(at, _)| at).filter(|&at| self.compares_sums(at)));
        }
        found
    }

    /// Returns whether either side of the operator at `at` names a checksum.
    fn compares_sums(&self, at: usize) -> bool {
        const ENDS: [char; 6] = [';', '{', '}', '|', '&', ','];
        let from = self.text[..at].rfind(ENDS).map_or(0, |end| end + 1);
        let to = self.text[at + 1..].find(ENDS).map_or(self.text.len(), |end| at + 1 + end);
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let said: Vec<&str> = self.text[from..to].split(|c| !is_word(c)).collect();
        said.iter().any(|word| word.split('_').any(|part| COMPARED.contains(&part)))
            || said.contains(&"found") && (said.contains(&"expected") || said.contains(&"hash"))
    }
}

#[test]
fn no_safeguard_is_without_a_name() {
    let mut used = BTreeSet::new();
    let mut bare = Vec::new();
    let mut seen = 0;
    for source in sources() {
        for at in source.safeguards() {
            seen += 1;
            let from = source.text[..at].rfind('\n').map_or(0, |end| end + 1);
            let to = source.text[at..].find('\n').map_or(source.text.len(), |end| at + end);
            let line = source.text[from..to].trim();
            let exception = EXCEPTIONS
                .iter()
                .position(|(path, what, _)| source.path.ends_with(path) && line.contains(what));
            match exception {
                _ if source.is_wrapped(at) => {}
                Some(exception) => {
                    used.insert(exception);
                }
                None => bare.push(format!("{}: {line}", source.path)),
            }
        }
    }
    assert!(seen > 80, "{seen} places are too few: what finds them is wrong");
    assert!(bare.is_empty(), "put these into `removable!`, `holds!` or `fails!`:\n{}", bare.join("\n"));
    for (i, (path, what, _)) in EXCEPTIONS.iter().enumerate() {
        assert!(used.contains(&i), "an exception that is none any more: {path}: {what}");
    }
}

#[test]
fn what_has_no_name_is_found() {
    let text = r#"
        fn sync(file: &dyn File) -> bool {
            // file.sync()
            removable!("a.sync", file.sync());
            file.sync();
            holds!("a.sum", sum == expected);
            if found
                == expected
            {
                fence(Ordering::SeqCst);
            }
            entry.checksum != other && number == 7
        }
        #[cfg(test)]
mod tests {
            file.sync();
        }
    "#;
    let source = Source::new("a.rs".to_owned(), text);
    assert_eq!(source.names, ["a.sync", "a.sum"]);
    let bare = source.safeguards().into_iter().filter(|&at| !source.is_wrapped(at));
    let mut bare: Vec<&str> = bare.map(|at| &source.text[at..at + 5]).collect();
    bare.sort_unstable();
    assert_eq!(bare, ["!= ot", "== ex", "fence", "sync("]);
}

#[test]
fn the_list_has_each_name_once() {
    let mut in_source: Vec<String> = sources().into_iter().flat_map(|source| source.names).collect();
    in_source.sort();
    let mut listed: Vec<&str> = ALL.iter().map(|safeguard| safeguard.name).collect();
    listed.sort_unstable();
    assert_eq!(in_source, listed, "the source (left) and `safeguards::ALL` (right)");
    assert!(listed.windows(2).all(|two| two[0] != two[1]), "a name stands for one place");
    assert!(ALL.iter().all(|safeguard| !safeguard.purpose.is_empty()));
}
