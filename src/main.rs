//! The catc command.
fn main() {}
