//! Builds and runs images.
fn main() {}
