//! Boots a kernel in QEMU with the guest tests as its init, and carries their
//! verdict back.
//!
//! Software emulation (TCG) on purpose: it works everywhere, also inside of a
//! virtual machine, where nested KVM hangs guests.

mod console;
mod images;
mod machine;

pub use console::Verdict;
pub use machine::need;

use crate::{
    build::{self, Architecture, Built},
    command::{asked, colours, output, say},
    initramfs::Initramfs,
    kernel::{self, Kernel, Series},
    rootfs,
};
use anyhow::{Context, Result, bail};
use console::{Line, broken_by_emulator, plain};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Enough to see a fault of order, few enough for each day.
pub const STARTS: u32 = 5;

#[derive(clap::Args)]
pub struct Args {
    /// The kernel; may be given several times.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Vec<Series>,
    /// What the guest is.
    #[arg(long, value_enum, default_value = "amd64", conflicts_with_all = ["runtime", "log"])]
    arch: Architecture,
    /// Only tests whose name contains this; with `!` before it, only the others.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only these boots; all of a kernel's by default.
    #[arg(long, value_parser = MODES_AND_KILLS)]
    mode: Vec<String>,
    /// The test of programs that were built to log instead.
    #[arg(long, conflicts_with = "runtime")]
    log: bool,
    /// The tests with real container runtimes and systemd instead.
    #[arg(long)]
    runtime: bool,
    /// Whose runtimes; those of each suite by default.
    #[arg(long, value_parser = rootfs::SUITES)]
    suite: Vec<String>,
    /// How many containers each runtime starts where it is asked whether any
    /// program runs with the runtime's value.
    #[arg(long, default_value_t = STARTS)]
    starts: u32,
    /// Memory of the guest, MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// One processor, whose clock counts instructions instead of time.
    #[arg(long)]
    counting: bool,
    /// Show all that the guest prints.
    #[arg(long)]
    verbose: bool,
}

/// What to boot and how.
pub struct Vm<'a> {
    pub kernel: &'a Kernel,
    pub built: &'a Built,
    /// A file system tree of the host that becomes the guest's, if it needs more
    /// than the tests and the agent.
    pub root: Option<PathBuf>,
    /// What it finds in `/images`, if it makes containers of images.
    pub images: Vec<(&'static str, Vec<u8>)>,
    /// `herder.NAME=VALUE` on the kernel's command line.
    pub parameters: Vec<(&'static str, String)>,
    pub memory: u32,
    pub timeout: Duration,
    /// A port of the host's loopback, forwarded to the agent's.
    pub forward: Option<u16>,
    /// One processor, whose clock goes on by a nanosecond with each instruction: what
    /// the guest takes for time is then a count, the same on whatever host.
    pub counting: bool,
    pub verbose: bool,
}

pub fn run(args: &Args) -> Result<()> {
    need(args.arch)?;
    let kernels = args.kernel.iter().map(|series| kernel::get_for(*series, args.arch));
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    let args_of_build = build::Args::default();
    let built = if args.log {
        build::logging(&args_of_build)?
    } else {
        build::for_vm(args.arch, &args_of_build)?
    };
    let mut failed = Vec::new();
    let mut run = Verdict::default();
    for kernel in &kernels {
        let boots = Boots {
            built: &built,
            filter: &args.filter,
            memory: args.memory,
            counting: args.counting,
            verbose: args.verbose,
        };
        let verdict = if args.runtime {
            boots.runtimes(kernel, &args.suite, args.starts)?
        } else if args.log {
            boots.modes(kernel, &["log"])?
        } else if args.mode.is_empty() {
            boots.modes(kernel, &MODES)?
        } else {
            boots.modes(kernel, &args.mode.iter().map(String::as_str).collect::<Vec<_>>())?
        };
        if verdict.failed > 0 || verdict.passed == 0 {
            failed.push(kernel.name());
        }
        run += verdict;
    }
    if !failed.is_empty() {
        bail!("tests failed, or none ran, on {}", failed.join(", "));
    }
    run.judge()
}

/// The boots that a kernel's tests take: with cgroup v2, for what is measured in
/// milliseconds, with an API server, with Python, for faults of what surrounds the agent, without
/// cgroup v2, and locked down and without IPv6.
pub const MODES: [&str; 7] = ["test", "timed", "pods", EXAMPLES, "faults", "v1", "lockdown"];

/// The boot in which the examples of the documents run.
const EXAMPLES: &str = "examples";

/// The same, and the one that only asks how kills are reported.
const MODES_AND_KILLS: [&str; 8] =
    ["test", "timed", "pods", EXAMPLES, "faults", "v1", "lockdown", "kills"];

/// Boots with the same settings.
#[derive(Clone, Copy)]
pub struct Boots<'a> {
    pub built: &'a Built,
    /// Only tests whose name contains this; with `!` before it, only the others.
    pub filter: &'a str,
    pub memory: u32,
    pub counting: bool,
    pub verbose: bool,
}

impl Boots<'_> {
    /// Runs some of [`MODES`] on a kernel and adds the verdicts up.
    pub fn modes(&self, kernel: &Kernel, modes: &[&str]) -> Result<Verdict> {
        let mut total = Verdict::default();
        for mode in modes {
            if !self.has_tests(kernel, mode)? {
                continue;
            }
            let has_python = *mode == EXAMPLES;
            let vm = Vm {
                kernel,
                built: self.built,
                root: has_python.then(rootfs::examples).transpose()?,
                images: Vec::new(),
                parameters: vec![("mode", (*mode).into()), ("filter", self.filter.into())],
                // The file system is memory too, and for a moment twice.
                memory: if has_python { self.memory.max(2048) } else { self.memory },
                timeout: Duration::from_secs(1200),
                forward: None,
                counting: self.counting,
                verbose: self.verbose,
            };
            let verdict = vm.boot(&mut |line| println!("[{}] {line}", kernel.name()))?;
            total += verdict;
        }
        Ok(total)
    }

    /// Whether the filter leaves anything for a boot to do. The guest lists its tests here
    /// as it would there, if it can run here.
    fn has_tests(&self, kernel: &Kernel, mode: &str) -> Result<bool> {
        if kernel.architecture != Architecture::Amd64 {
            return Ok(true);
        }
        let mut list = Command::new(&self.built.guest);
        let names = asked(list.args(["list", mode, self.filter]));
        let names = names.with_context(|| {
            format!("{} does not list the tests of {mode}", self.built.guest.display())
        })?;
        Ok(names.lines().any(|line| line.ends_with(": test")))
    }

    /// Runs the tests with these suites' container runtimes, or with each's,
    /// without and with systemd as process 1.
    pub fn runtimes(&self, kernel: &Kernel, suites: &[String], starts: u32) -> Result<Verdict> {
        let mut total = Verdict::default();
        let chosen = |suite: &&str| suites.is_empty() || suites.iter().any(|one| one == suite);
        for suite in rootfs::SUITES.into_iter().filter(chosen) {
            for mode in ["runtime", "systemd"] {
                if self.has_tests(kernel, mode)? {
                    total += self.runtime(kernel, suite, mode, starts)?;
                }
            }
        }
        Ok(total)
    }

    /// One boot of these, where `mode` is `runtime` or `systemd`.
    pub fn runtime(
        &self,
        kernel: &Kernel,
        suite: &'static str,
        mode: &str,
        starts: u32,
    ) -> Result<Verdict> {
        let vm = Vm {
            kernel,
            built: self.built,
            root: Some(rootfs::get(suite)?),
            images: images::all(self.built)?,
            parameters: vec![
                ("mode", mode.into()),
                ("suite", suite.into()),
                ("filter", self.filter.into()),
                ("starts", starts.to_string()),
            ],
            // The file system is memory too, and for a moment twice.
            memory: self.memory.max(2048),
            timeout: Duration::from_secs(600 + 20 * u64::from(starts)),
            forward: None,
            counting: self.counting,
            verbose: self.verbose,
        };
        vm.boot(&mut |line| println!("[{suite} {mode}] {line}"))
    }
}

impl Vm<'_> {
    /// Boots, gives each line of the guest to `show`, and waits for the verdict.
    /// Boots once more, and says so, if the emulator broke the guest.
    pub fn boot(&self, show: &mut dyn FnMut(&str)) -> Result<Verdict> {
        let outcome = self.boot_once(show);
        match &outcome {
            Err(error) if broken_by_emulator(&format!("{error:#}")) => {
                say(&format!("{error:#}"));
                say("The emulator ran stale code of the guest's kernel; booting it once more.");
                self.boot_once(show)
            }
            _ => outcome,
        }
    }

    fn boot_once(&self, show: &mut dyn FnMut(&str)) -> Result<Verdict> {
        let name = self.kernel.name();
        let named =
            self.parameters.iter().filter(|(name, _)| ["mode", "suite", "measure"].contains(name));
        let boot: Vec<_> = named.map(|(_, value)| value.as_str()).collect();
        let boot = format!("{name}-{}", boot.join("-"));
        let initramfs = output()?.join(format!("initramfs-{boot}-{}.cpio", std::process::id()));
        self.initramfs()?.write(&initramfs)?;
        let log = output()?.join(format!("vm-{boot}.log"));
        let mut qemu = Running(self.qemu(&initramfs).spawn().context("cannot start QEMU")?);
        let console = qemu.0.stdout.take().context("qemu has no console")?;
        let (lines, received) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if lines
                    .send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut log_file =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let colours = colours();
        let outcome = console::follow(&received, &mut log_file, self.timeout, &mut |line| {
            let text = match line {
                Line::Guest(text) => text,
                Line::Other(text) if self.verbose => text,
                Line::Other(_) => return,
            };
            show(&if colours { text.to_owned() } else { plain(text) });
        });
        drop(qemu);
        // Some tens of MiB that only this run needs.
        let _ = std::fs::remove_file(initramfs);
        outcome.with_context(|| {
            format!("kernel {name} ({}), console in {}", self.kernel.release, log.display())
        })
    }

    fn initramfs(&self) -> Result<Initramfs> {
        let mut archive = match &self.root {
            Some(root) => Initramfs::over(root, &rootfs::LEFT_OUT)?,
            None => Initramfs::new(),
        };
        archive.add("init", &self.built.guest)?;
        archive.add("bin/herder-agent", &self.built.agent)?;
        archive.add_files("images", &self.images);
        // For the port that is forwarded, or for the networks of containers.
        if self.forward.is_some() || !self.images.is_empty() {
            for module in &self.kernel.modules {
                let name = module.file_name().unwrap_or_default().to_string_lossy();
                archive.add(&format!("modules/{name}"), module)?;
            }
        }
        Ok(archive)
    }
}

/// A QEMU that is stopped when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
