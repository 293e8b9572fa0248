//! Every refusal of the macros, pinned with its message.
//!
//! `TRYBUILD=overwrite cargo test --test compile_fail` writes the messages anew; read the difference before it is kept.

#[test]
fn refusals() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
