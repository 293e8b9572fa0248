//! What the torture tests share: a small world of tables, operations on it, the model that says what it must hold, and the
//! comparison of a store with the model. Only for tests.

#![forbid(unsafe_code)]

pub mod safeguards;
