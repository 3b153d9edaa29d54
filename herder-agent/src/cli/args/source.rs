//! The words of `--source`. The choice itself is the kernel's room, which knows no command line.

use crate::kernel::source::SourceChoice;
use clap::{ValueEnum, builder::PossibleValue};

impl ValueEnum for SourceChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Ebpf, Self::MemoryEvents]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (word, help) = match self {
            Self::Auto => ("auto", "eBPF, or the kernel's counts if it refuses the programs"),
            Self::Ebpf => ("ebpf", "eBPF; fail if the kernel refuses the programs"),
            Self::MemoryEvents => ("memory-events", "The kernel's counts of each cgroup"),
        };
        Some(PossibleValue::new(word).help(help))
    }
}
