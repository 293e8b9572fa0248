//! PongoDB.
