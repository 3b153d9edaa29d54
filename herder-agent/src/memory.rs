//! Keeps the agent's memory small, and its page faults short.
#![expect(unsafe_code, reason = "the C library and the kernel offer this to C only")]

use rustix::mm::Advice;
use std::{ffi::c_void, fs};

/// Keeps huge pages out of this process. To make one, khugepaged locks all of its
/// memory, and as the least urgent task of the node (`set_user_nice(current,
/// MAX_NICE)` in `khugepaged()`, mm/khugepaged.c) it holds that lock for as long
/// as others keep the CPUs busy. The core was seen to wait 600 ms for it in a page
/// fault, on 7.2, ten seconds after the start.
pub(crate) fn no_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "Huge pages stay; on a busy node they may delay corrections.");
    }
}

/// Returns free pages of the heap to the kernel (glibc's `malloc_trim(3)`): the
/// kernel's BTF, parsed, is more than ten times what the agent needs from then on, and the
/// metrics of a thousand containers take megabytes while they are written.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the program's own code, of which most is for the start (the command line,
/// the programs' loader, TLS). What is needed again is taken from the page cache, one short
/// page fault for sixteen pages.
pub(crate) fn let_code_go() {
    for (start, end) in own_code() {
        // SAFETY: the range is a mapping of this program's file that cannot be written, so
        // what is read there later is what was there before.
        let advised = unsafe {
            rustix::mm::madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed)
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "The program's code stays in memory.");
        }
    }
}

/// Where this program's code is mapped: its file's mappings that are executed. Those that
/// are read only may have been written before, by the dynamic linker.
fn own_code() -> Vec<(usize, usize)> {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return Vec::new() };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(|line| code_of(line, program.to_str()?)).collect()
}

/// The range of a line of /proc/self/maps, if it is of this program's code.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let of_program = rest.starts_with("r-xp ") && rest.ends_with(&format!(" {program}"));
    let (start, end) = range.split_once('-').filter(|_| of_program)?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?)).filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_let_go() {
        let table = [
            ("7f10-7f30 r-xp 00001000 00:1f 12   /herder-agent", Some((0x7f10, 0x7f30))),
            ("7f10-7f30 r--p 00001000 00:1f 12   /herder-agent", None),
            ("7f10-7f30 rwxp 00001000 00:1f 12   /herder-agent", None),
            ("7f10-7f30 r-xp 00001000 00:1f 12   /other/herder-agent", None),
            ("7f10-7f30 r-xp 00000000 00:00 0    [vdso]", None),
            ("7f30-7f10 r-xp 00001000 00:1f 12   /herder-agent", None),
            ("", None),
        ];
        for (line, range) in table {
            assert_eq!(code_of(line, "/herder-agent"), range, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_without_its_code() {
        assert!(!own_code().is_empty());
        let_code_go();
        assert_eq!("1".parse::<u8>(), Ok(1));
    }
}
