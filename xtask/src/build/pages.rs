//! Whether a program can be loaded by kernels with large pages: a segment has to begin at the same
//! place within a page in the file and in memory, which the linker sees to for one size of pages.

use anyhow::{Context, Result, ensure};

/// Largest pages of arm64, bytes.
const LARGEST: u64 = 64 << 10;

/// `PT_LOAD` (include/uapi/linux/elf.h).
const LOAD: u32 = 1;

/// Checks a 64-bit little-endian ELF file.
pub fn fit(program: &[u8]) -> Result<()> {
    ensure!(program.starts_with(b"\x7fELF\x02\x01"), "it is no ELF file for 64 bits");
    let number = |at: usize, bytes: usize| -> Result<u64> {
        let field = program.get(at..at + bytes).context("the ELF file ends early")?;
        Ok(field.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    };
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut loaded = 0;
    for header in 0..count {
        let at = usize::try_from(first + header * size)?;
        if number(at, 4)? != u64::from(LOAD) {
            continue;
        }
        loaded += 1;
        let (offset, address, align) =
            (number(at + 8, 8)?, number(at + 16, 8)?, number(at + 48, 8)?);
        ensure!(
            align.is_multiple_of(LARGEST) && align > 0 && offset % LARGEST == address % LARGEST,
            "the segment at {address:#x} is aligned to {align} bytes: a kernel with pages of {LARGEST} cannot load it"
        );
    }
    ensure!(loaded > 0, "it has nothing to load");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one segment to load.
    fn elf(offset: u64, address: u64, align: u64) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&1u16.to_le_bytes());
        file[64..68].copy_from_slice(&LOAD.to_le_bytes());
        for (at, value) in [(72, offset), (80, address), (112, align)] {
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    #[test]
    fn only_segments_of_the_largest_pages_fit() {
        fit(&elf(0x1_0000, 0x42_0000, 0x1_0000)).unwrap();
        fit(&elf(0x1_1234, 0x42_1234, 0x1_0000)).unwrap();
        for (offset, address, align) in
            [(0x1000, 0x40_1000, 0x1000), (0, 0, 0), (0x4000, 0x40_8000, 0x1_0000)]
        {
            assert!(
                fit(&elf(offset, address, align)).is_err(),
                "{offset:#x} {address:#x} {align:#x}"
            );
        }
        let mut none = elf(0, 0, 0x1_0000);
        none[64] = 2;
        assert!(fit(&none).is_err(), "nothing to load");
        assert!(fit(&none[..80]).is_err(), "cut");
        assert!(fit(b"#!/bin/sh").is_err(), "no ELF");
    }
}
