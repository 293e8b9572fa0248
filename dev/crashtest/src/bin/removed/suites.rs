//! The test programs that are run, and how they are built.

use pongo_crashtest::safeguards::SafeguardKind;

/// Programs that are built together, with these flags, in this folder of `target`.
pub(crate) struct Build {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static str,
    /// A text that the names of the tests contain; others are excluded.
    pub(crate) only: &'static str,
    /// Package and test target; `lib` stands for the unit tests of the library.
    pub(crate) programs: &'static [(&'static str, &'static str)],
}

/// All builds. A new test file only needs a line here: its tests are run separately, the fastest
/// first, and only for safeguards that they reach.
pub(crate) const BUILDS: &[Build] = &[
    Build {
        name: "removable",
        flags: "--cfg pongo_removable",
        only: "",
        programs: &[
            ("pongo-core", "lib"),
            ("pongo-core", "engine"),
            ("pongo-index", "lib"),
            ("pongo-index", "concurrency"),
            ("pongo-index", "crash"),
            ("pongo-index", "damage"),
            ("pongo-index", "interleaving"),
            ("pongo-index", "model"),
            ("pongo-index", "ordered_compact"),
            ("pongo-index", "ordered_crash"),
            ("pongo-index", "ordered_damage"),
            ("pongo-index", "ordered_model"),
            ("pongo-index", "space"),
            ("pongo", "lib"),
            ("pongo", "bad_input"),
            ("pongo", "closing"),
            ("pongo", "descriptors"),
            ("pongo", "external"),
            ("pongo", "filter"),
            ("pongo", "format"),
            ("pongo", "kill"),
            ("pongo", "model"),
            ("pongo", "namespaces"),
            ("pongo", "ordered_corruption"),
            ("pongo", "processes"),
            ("pongo", "range_processes"),
            ("pongo", "range_races"),
            ("pongo", "ranges"),
            ("pongo", "unique"),
            ("pongo", "verify"),
            ("pongo-crashtest", "regressions"),
            ("pongo-crashtest", "calls"),
            ("pongo-crashtest", "closed"),
            ("pongo-crashtest", "cuts"),
            ("pongo-crashtest", "cuts_after_kills"),
            ("pongo-crashtest", "cuts_twice"),
            ("pongo-crashtest", "failing_disk"),
            ("pongo-crashtest", "faults"),
            ("pongo-crashtest", "full_disk"),
            ("pongo-crashtest", "fuse"),
            ("pongo-crashtest", "kills"),
            ("pongo-crashtest", "power"),
            ("pongo-crashtest", "rot"),
            ("pongo-crashtest", "upgrade"),
            ("pongo-crashtest", "world"),
        ],
    },
    // Models of concurrent threads: without a fence, one of them fails (docs/design/testing.md).
    Build {
        name: "removable-loom",
        flags: "--cfg pongo_removable --cfg loom",
        only: "loom",
        programs: &[("pongo-core", "lib"), ("pongo-index", "loom_hash")],
    },
];

/// Returns words in the names of tests that are made for safeguards of a kind; these are run before
/// the others.
pub(crate) fn likely(kind: SafeguardKind) -> &'static [&'static str] {
    match kind {
        SafeguardKind::Sync | SafeguardKind::Folder => {
            &["mutation_gaps", "closed", "cut", "power", "crash", "names_of", "merge"]
        }
        SafeguardKind::Comparison => &[
            "swapped_files",
            "mutation_gaps",
            "closed",
            "rot",
            "corruption",
            "damage",
            "flipped",
            "short",
            "cut",
            "power",
            "boot",
        ],
        SafeguardKind::Space => &["full", "fuse"],
        SafeguardKind::Fence => &["loom", "interleaving", "concurrency"],
        SafeguardKind::Pin => &["loom", "mutation_gaps", "process", "reader", "concurrency"],
    }
}
