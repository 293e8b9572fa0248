//! The macros of PongoDB.
