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

# All tests, the crash tests at their small sizes
test:
    cargo test
    cargo test -p pongo-crashtest
    cargo test -p pongo-bench

# As on docs.rs: RUSTDOCFLAGS="--cfg docsrs" cargo +nightly doc --no-deps --all-features
# The documentation, warnings denied
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The library on the oldest supported compiler, `rust-version` in Cargo.toml; rustup installs it
msrv:
    #!/usr/bin/env bash
    set -euo pipefail
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    [ -n "$version" ] || { echo "msrv: no rust-version in Cargo.toml" >&2; exit 1; }
    if ! command -v rustup > /dev/null; then
        echo "msrv: SKIPPED, Rust $version was not tested: rustup is not installed" >&2
        exit 0
    fi
    if ! rustup run "$version" rustc --version > /dev/null 2>&1 \
        && ! rustup toolchain install "$version" --profile minimal --no-self-update; then
        echo "msrv: SKIPPED, Rust $version was not tested: rustup cannot install it on this machine" >&2
        exit 0
    fi
    for features in --all-features --no-default-features; do
        rustup run "$version" cargo check --locked -p pongo-core -p pongo-derive -p pongo-index -p pongo --lib $features
    done

# The library without its default features: lints of everything; and its tests in `just minimal-test`
minimal:
    cargo clippy -p pongo -p pongo-index --all-targets --no-default-features -- -D warnings

minimal-test:
    cargo test -p pongo --no-default-features

# What needs a feature that is off by default
features:
    cargo test -p pongo --all-features --test serde
    cargo run -p pongo --all-features --quiet --example json
    cargo test -p pongo-core --all-features --lib fields

# Licences and sources of dependencies (deny.toml); needs `cargo install cargo-deny --locked`
deny *checks="licenses bans sources":
    #!/usr/bin/env bash
    set -euo pipefail
    if ! cargo deny --version > /dev/null 2>&1; then
        echo "deny: SKIPPED, dependencies were not checked: cargo-deny is not installed" >&2
        exit 0
    fi
    cargo deny --workspace --locked check {{checks}}

# Packages, each built from its archive alone (`--no-verify`: not built); the options of `dev` avoid a second build of dependencies
package *options:
    CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=line-tables-only \
        cargo package --workspace --locked --allow-dirty --quiet {{options}}

# Import circles between the modules of a crate; needs python3
circles:
    dev/tools/circles

# The examples, `flights` twice: it loads, and then finds what it loaded
examples:
    #!/usr/bin/env bash
    set -euo pipefail
    store=$(mktemp -d)/flights.pongo
    trap 'rm -rf "${store%/*}"' EXIT
    cargo run --release --example flights -- "$store"
    cargo run --release --example flights -- "$store"
    cargo run --release --example orders
    # The small ones, but for `json` (`just features`), as the tests have built them.
    for example in $(cd examples && ls *.rs | sed 's/\.rs$//' | grep -v json); do
        cargo run --quiet --example "$example"
    done

# PongoDB and its peers on the same data (docs/BENCHMARKS.md)
figures *args:
    cargo run --release -p pongo-bench -- figures {{args}}

# This tree and another commit in turn: fails if a load became worse. `just figures-base HEAD --callgrind`
figures-base commit *args:
    cargo run --release -p pongo-bench -- figures --base {{commit}} {{args}}

# Everything that CI runs
ci: lint circles msrv minimal test features docs examples loom deny (package "--no-verify")

# Every torture test `size` times as large as in CI (hours), and all other tests, with seeds that are drawn (docs/design/testing.md)
torture size="20":
    {{seeds}} PONGO_TORTURE={{size}} cargo test --profile torture -p pongo-crashtest --no-fail-fast -- --nocapture --test-threads=1
    {{seeds}} cargo test --profile torture --workspace --exclude pongo-crashtest --exclude pongo-bench --no-fail-fast
    just loom 4

# One torture test (cuts, cuts_twice, cuts_after_kills, power, kills, faults, calls, failing_disk, rot, corpora), `size` times as large as in CI
try name size="1":
    {{seeds}} PONGO_TORTURE={{size}} cargo test --profile torture -p pongo-crashtest --test {{name}} -- --nocapture

# Each safeguard (or these) left out in turn, and which test misses it: writes docs/removed.md
removed *names:
    cargo run -p pongo-crashtest --bin removed -- {{names}}

# Models of the control file, the pins and the hash index (docs/design/testing.md); `size` above 1 tries more of each
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
    TSAN_OPTIONS="history_size=4 suppressions={{justfile_directory()}}/dev/crashtest/tsan.suppressions" \
        cargo +nightly test -Zbuild-std --target {{target}} --target-dir target/tsan {{tests}} -- --test-threads=1
