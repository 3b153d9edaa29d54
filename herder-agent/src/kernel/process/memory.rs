//! Keeps the agent's memory small, and its page faults short.
#![expect(unsafe_code, reason = "the C library and the kernel offer this to C only")]

use rustix::mm::Advice;
use std::{ffi::c_void, fs};

/// Keeps huge pages out of this process. To make one, khugepaged locks all of its
/// memory, and as the least urgent task of the node (`set_user_nice(current,
/// MAX_NICE)` in `khugepaged()`, mm/khugepaged.c) it holds that lock for as long
/// as others keep the CPUs busy. The core was seen to wait 600 ms for it in a page
/// fault, on 7.2, ten seconds after the start.
pub fn no_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "Huge pages cannot be disabled; on a busy node they may delay corrections.");
    }
}

/// Returns free pages of the heap to the kernel (glibc's `malloc_trim(3)`): the programs'
/// loader and the first list of pods leave some behind.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the program's own file, of which most is for the start (the command line,
/// the programs' loader, TLS). What is needed again is taken from the page cache, one short
/// page fault for sixteen pages.
pub fn let_file_go() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, end) in unwritten(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is a mapping of this program's file that cannot be written,
        // and none of its pages ever was, so what is read there later is the same.
        let advised = unsafe {
            rustix::mm::madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed)
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "The pages of the program's file cannot be released.");
        }
    }
}

/// Where this program's file is mapped unchanged, from /proc/self/smaps: a page that
/// was written, as the dynamic linker does to some that are read only later, is anonymous
/// (`smaps_account()`, fs/proc/task_mmu.c).
fn unwritten(smaps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:").map(str::trim) {
            Some("0 kB") => found.extend(mapping.take()),
            Some(_) => mapping = None,
            // Other lines of numbers begin with a name and a colon.
            None if line.split(' ').next().is_some_and(|word| word.ends_with(':')) => {}
            None => mapping = range_of(line, program),
        }
    }
    found
}

/// The range of a mapping's first line, if it is of this program and cannot be written.
fn range_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (rights, _) = rest.split_once(' ')?;
    let of_program = ["r-xp", "r--p"].contains(&rights) && rest.ends_with(&format!(" {program}"));
    let (start, end) = range.split_once('-').filter(|_| of_program)?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?)).filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_let_go() {
        let table = [
            ("7f10-7f30 r-xp 00001000 00:1f 12   /herder-agent", "0 kB", true),
            ("7f10-7f30 r--p 00000000 00:1f 12   /herder-agent", "0 kB", true),
            ("7f10-7f30 r--p 00001000 00:1f 12   /herder-agent", "16 kB", false),
            ("7f10-7f30 rw-p 00001000 00:1f 12   /herder-agent", "0 kB", false),
            ("7f10-7f30 rwxp 00001000 00:1f 12   /herder-agent", "0 kB", false),
            ("7f10-7f30 r-xp 00001000 00:1f 12   /other/herder-agent", "0 kB", false),
            ("7f10-7f30 r-xp 00000000 00:00 0    [vdso]", "0 kB", false),
            ("7f30-7f10 r-xp 00001000 00:1f 12   /herder-agent", "0 kB", false),
            ("7f10-7f30 r-xp 00001000 00:1f 12   /herder-agent", "", false),
            ("", "0 kB", false),
        ];
        for (line, anonymous, let_go) in table {
            let smaps = format!("{line}\nSize:  8 kB\nAnonymous:  {anonymous}\nVmFlags: rd ex\n");
            let range = let_go.then_some((0x7f10, 0x7f30));
            assert_eq!(unwritten(&smaps, "/herder-agent"), Vec::from_iter(range), "{line}");
        }
        // What a mapping says is never taken for another's.
        let two =
            "7f10-7f30 r-xp 0 00:1f 12 /herder-agent\n7f30-7f40 rw-p 0 00:00 0\nAnonymous: 0 kB\n";
        assert_eq!(unwritten(two, "/herder-agent"), Vec::new());
    }

    #[test]
    fn the_program_goes_on_without_its_file() {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!unwritten(&maps, program.to_str().unwrap()).is_empty());
        let_file_go();
        assert_eq!("1".parse::<u8>(), Ok(1));
    }
}
