//! Every compile error of the macros, with its message.
//!
//! `TRYBUILD=overwrite cargo test --test compile_fail` rewrites the messages; review the diff
//! before you commit it.

#[test]
fn compile_errors_match_expectations() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
