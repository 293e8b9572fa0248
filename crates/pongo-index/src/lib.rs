//! The keys of PongoDB.
