//! The kernel's counts of a cgroup, as its files have them.

/// `oom_kill` of `memory.events`, `memory.events.local` or `/proc/vmstat`.
pub fn parse_oom_kill(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The lines of a file such as `memory.stat` that are a name and a number.
pub fn numbers(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, number) = line.split_once(' ')?;
        Some((name, number.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_all_kernels() {
        let text = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 12\noom_group_kill 1\n";
        assert_eq!(parse_oom_kill(text), Some(12));
        assert_eq!(parse_oom_kill("oom 1\noom_kill 3\n"), Some(3));
        for bad in ["", "oom_group_kill 1\n", "oom_kill x\n"] {
            assert_eq!(parse_oom_kill(bad), None, "{bad:?}");
        }
    }
}
