# Recipes of PongoDB. `just` lists them; `pip install rust-just` or `cargo install just` installs it.
# Seeds: `cargo test` has fixed ones; `torture` and `try` draw one. PONGO_SEED replays a random test.

target := "x86_64-unknown-linux-gnu"
# The given seed, or one of the clock
seeds := "PONGO_SEED=${PONGO_SEED:-$(date +%s)}"

# What there is
default:
    @just --list --unsorted

# Format and lints, as CI has them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests at their small sizes
test:
    cargo test
    cargo test -p pongo-bench

# The documentation, warnings denied
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The examples; the first twice: it loads, and then finds what it loaded
examples:
    #!/usr/bin/env bash
    set -euo pipefail
    store=$(mktemp -d)/flights.pongo
    trap 'rm -rf "${store%/*}"' EXIT
    cargo run --release --example flights -- "$store"
    cargo run --release --example flights -- "$store"
    cargo run --release --example orders

# PongoDB and its peers on the same data (docs/BENCHMARKS.md)
figures *args:
    cargo run --release -p pongo-bench -- figures {{args}}

# This tree and another commit in turn: fails if a load became worse. `just figures-base HEAD --callgrind`
figures-base commit *args:
    cargo run --release -p pongo-bench -- figures --base {{commit}} {{args}}

# Everything that CI runs
ci: lint test docs examples loom

# Every torture test `size` times as large as in CI (hours), and all other tests, with seeds that are drawn: what it prints last goes into docs/RELIABILITY.md
torture size="20":
    {{seeds}} PONGO_TORTURE={{size}} cargo test --profile torture -p pongo-torture --no-fail-fast -- --nocapture --test-threads=1
    {{seeds}} cargo test --profile torture --workspace --exclude pongo-torture --exclude pongo-bench --no-fail-fast
    just loom 4

# One torture test (cuts, cuts_twice, cuts_after_kills, power, kills, faults, calls, failing_disk, rot, corpora), `size` times as large as in CI
try name size="1":
    {{seeds}} PONGO_TORTURE={{size}} cargo test --profile torture -p pongo-torture --test {{name}} -- --nocapture

# Each safeguard (or these) left out in turn, and which test misses it: writes docs/removed.md
removed *names:
    cargo run -p pongo-torture --bin removed -- {{names}}

# Models of the control file, the pins and the hash index (docs/LOOM.md); `size` above 1 tries more of each
loom size="1":
    PONGO_TORTURE={{size}} RUSTFLAGS="--cfg loom" cargo test -p pongo-core --target-dir target/loom --lib loom -- --nocapture
    PONGO_TORTURE={{size}} RUSTFLAGS="--cfg loom" cargo test -p pongo-index --target-dir target/loom --test loom_hash -- --nocapture

# A fuzz target for so many seconds (fuzz/README.md); needs nightly, and `cargo install cargo-fuzz --locked`
fuzz name seconds="600":
    cargo +nightly fuzz run {{name}} -- -max_len=600 -timeout=20 -malloc_limit_mb=200 -max_total_time={{seconds}}

# Tests under AddressSanitizer; needs nightly
asan *tests="-p pongo-core -p pongo-index --lib --tests":
    RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1 \
        cargo +nightly test --target {{target}} --target-dir target/asan {{tests}}

# Tests with threads under ThreadSanitizer; needs nightly with rust-src
tsan *tests="-p pongo-core -p pongo-index --lib --test storage_conformance --test concurrency --test interleaving --test ordered_model":
    RUSTFLAGS="-Zsanitizer=thread" \
    TSAN_OPTIONS="history_size=4 suppressions={{justfile_directory()}}/crates/pongo-torture/tsan.suppressions" \
        cargo +nightly test -Zbuild-std --target {{target}} --target-dir target/tsan {{tests}} -- --test-threads=1
