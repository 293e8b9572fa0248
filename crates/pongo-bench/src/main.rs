//! PongoDB against its peers.
fn main() {}
