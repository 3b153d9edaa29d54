//! What the host wants of a boot.

use std::fs;

/// A value from the kernel's command line.
pub fn parameter(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap();
    let prefix = format!("herder.{name}=");
    line.split_whitespace().find_map(|word| word.strip_prefix(&prefix).map(str::to_owned))
}
