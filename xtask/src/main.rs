//! Herder's build, test and demo tasks.
fn main() {}
