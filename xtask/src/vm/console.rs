//! What the guest says on its console, up to its verdict.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    ops::AddAssign,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// Lines of the console that an error shows: all of a kernel's last words.
const LAST: usize = 120;

/// How the guest begins every line that is meant for people.
const GUEST: &str = "herder-guest: ";

/// What the guest said at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub passed: u32,
    pub failed: u32,
    /// Those of the passed that needed a second try.
    pub flaky: u32,
}

/// Tests that may need a second try in one run, whatever it consists of. One may be a moment in
/// which the emulator did nothing; more are a fault of the tests or of the agent.
const MOST_FLAKY: u32 = 1;

impl Verdict {
    /// One that passed.
    pub const PASSED: Self = Verdict { passed: 1, failed: 0, flaky: 0 };

    /// Fails if a test of the run has failed, or too many passed at their second try only.
    pub fn judge(self) -> Result<()> {
        if self.failed > 0 {
            bail!("{} tests failed", self.failed);
        }
        if self.flaky > MOST_FLAKY {
            bail!("{} tests passed at their second try only; mend them", self.flaky);
        }
        Ok(())
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.flaky += other.flaky;
    }
}

/// A line of the console.
pub enum Line<'a> {
    /// What the tests say to people.
    Guest(&'a str),
    /// All else: the kernel, systemd, the runtimes.
    Other(&'a str),
}

/// The text without what colours it (`ESC [ … m`).
pub fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit() && letter != ';');
        match end.filter(|end| part[*end..].starts_with('m')) {
            Some(end) => plain += &part[end + 1..],
            None => plain += part,
        }
    }
    plain
}

/// Follows the console until it ends, writes it to `log`, shows each line, and
/// gives the verdict.
///
/// Fails when the kernel panics, when the console does not end within the timeout,
/// and when the guest gives no verdict, or two.
pub fn follow(
    lines: &mpsc::Receiver<String>,
    log: &mut impl Write,
    timeout: Duration,
    show: &mut dyn FnMut(Line<'_>),
) -> Result<Verdict> {
    let deadline = Instant::now() + timeout;
    let mut verdict = None;
    let mut last = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest hung for {:?}; its last lines:\n{}", timeout, last.join("\n"))
            }
        };
        writeln!(log, "{line}")?;
        last.push(line.clone());
        if last.len() > LAST {
            last.remove(0);
        }
        if line.contains("Kernel panic - not syncing") && !line.contains("\"") {
            bail!("the guest's kernel panicked:\n{}", last.join("\n"));
        }
        match line.split_once(GUEST) {
            Some((_, text)) => {
                if let Some(found) = parse_verdict(text)
                    && verdict.replace(found).is_some()
                {
                    bail!("the guest gave two verdicts");
                }
                show(Line::Guest(text));
            }
            None => show(Line::Other(&line)),
        }
    }
    verdict.with_context(|| format!("the guest ended without a verdict:\n{}", last.join("\n")))
}

/// Whether a panic is the emulator's fault and not that of what is tested.
///
/// A kernel that patches its own code (static keys, ftrace) puts a breakpoint over
/// the instruction first and takes it away last, when no processor can meet it any
/// more (`smp_text_poke_batch_finish()`, arch/x86/kernel/alternative.c). With one
/// thread for each processor, QEMU 7.2 now and then runs a translation that still
/// has the breakpoint; the kernel does not know it and dies of it. Seen once in
/// about ten runs on all kernels. No eBPF program can make a kernel execute `int3`.
pub fn broken_by_emulator(error: &str) -> bool {
    error.contains("guest's kernel panicked") && error.contains("int3: 0000 [#")
}

/// Reads `verdict: N passed, N failed, N flaky`.
fn parse_verdict(text: &str) -> Option<Verdict> {
    let (passed, rest) = text.strip_prefix("verdict: ")?.split_once(" passed, ")?;
    let (failed, rest) = rest.split_once(" failed, ")?;
    let flaky = rest.strip_suffix(" flaky")?;
    Some(Verdict {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
        flaky: flaky.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_tests_that_need_a_second_try_fail_the_run() {
        let mut run = Verdict::PASSED;
        run += Verdict { passed: 1, failed: 0, flaky: MOST_FLAKY };
        assert!(run.judge().is_ok());
        run += Verdict { passed: 1, failed: 0, flaky: 1 };
        assert!(run.judge().unwrap_err().to_string().contains("2 tests passed at their second"));
        let failed = Verdict { passed: 9, failed: 1, flaky: 0 };
        assert_eq!(failed.judge().unwrap_err().to_string(), "1 tests failed");
    }

    /// A file, or another program, has no use for them.
    #[test]
    fn plain_text_has_no_colours() {
        let table = [
            ("\x1b[2m  6.2 s\x1b[0m  \x1b[32msubprocess\x1b[0m x", "  6.2 s  subprocess x"),
            ("\x1b[1;31mred\x1b[m", "red"),
            ("nothing [31m of that", "nothing [31m of that"),
            ("cut off \x1b[3", "cut off 3"),
            ("é\x1b[2Kü", "é2Kü"),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn only_a_whole_verdict_counts() {
        let verdict = Some(Verdict { passed: 3, failed: 1, flaky: 2 });
        assert_eq!(parse_verdict("verdict: 3 passed, 1 failed, 2 flaky"), verdict);
        for bad in [
            "verdict: 3 passed",
            "verdict: 3 passed, 1 failed",
            "3 passed, 1 failed, 0 flaky",
            "verdict: x passed, 1 failed, 0 flaky",
        ] {
            assert_eq!(parse_verdict(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_stale_breakpoint_is_the_emulators_fault() {
        let panic = "the guest's kernel panicked:\n";
        assert!(broken_by_emulator(&format!("{panic}[ 1.0] Oops: int3: 0000 [#1] SMP")));
        assert!(broken_by_emulator(&format!("{panic}[ 1.0] int3: 0000 [#1] SMP PTI")));
        assert!(!broken_by_emulator(&format!("{panic}[ 1.0] Oops: Oops: 0000 [#1] SMP")));
        assert!(!broken_by_emulator("the guest hung; it had said int3: 0000 [#1]"));
    }

    /// Follows a console of these lines that then ends, or stays open.
    fn followed(lines: &[&str], ends: bool) -> Result<Verdict> {
        let (sender, received) = mpsc::channel();
        lines.iter().for_each(|line| sender.send((*line).to_owned()).unwrap());
        let open = (!ends).then_some(sender);
        let outcome = follow(&received, &mut Vec::new(), Duration::from_millis(50), &mut |_| {});
        drop(open);
        outcome
    }

    #[test]
    fn a_guest_that_panics_hangs_or_says_nothing_fails() {
        let verdict = "[ 9.1] herder-guest: verdict: 2 passed, 0 failed, 0 flaky";
        let panic = "[ 9.2] Kernel panic - not syncing: Fatal exception";
        let good = followed(&["booting", verdict], true).unwrap();
        assert_eq!(good, Verdict { passed: 2, failed: 0, flaky: 0 });
        for (lines, ends, why) in [
            (vec![verdict, panic], true, "panicked"),
            (vec![verdict], false, "hung"),
            (vec!["herder-guest: ok      one (0.1 s)"], true, "without a verdict"),
            (vec![], true, "without a verdict"),
            (vec![verdict, verdict], true, "two verdicts"),
        ] {
            let error = format!("{:#}", followed(&lines, ends).unwrap_err());
            assert!(error.contains(why), "{lines:?}: {error}");
        }
    }
}
