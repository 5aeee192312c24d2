//! The `engawa` program.
fn main() {}
