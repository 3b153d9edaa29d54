//! Measures Herder against the programs that do a part of the same, and keeps the
//! figures: `docs/benchmarks.json`, and made from it `docs/benchmarks.md`.
//!
//! What is compared runs in one guest of one boot, because an emulated machine on a
//! shared host is never twice the same; ratios count, and figures only beside them.

mod kept;
mod native;
mod table;

use crate::{
    build::{self, Built},
    command::{asked, say},
    debian,
    kernel::{self, Kernel, Series},
    rootfs,
    vm::Vm,
};
use anyhow::{Context, Result, bail};
use kept::Kept;
use serde_json::{Value, json};
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub struct Args {
    /// Run only these measures; all by default.
    #[arg(long, value_enum)]
    only: Vec<Measure>,
    /// The kernel to boot.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// How long each measure runs.
    #[arg(long, value_enum, default_value = "usual")]
    size: Size,
    /// Make docs/benchmarks.md from docs/benchmarks.json, and measure nothing.
    #[arg(long)]
    render: bool,
    /// Print the figures, and do not store them.
    #[arg(long)]
    no_keep: bool,
    /// Show everything that the guest prints.
    #[arg(long)]
    verbose: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// Resident memory with 30, 250 and 1,000 containers.
    Memory,
    /// Time from a kill until it is shown.
    Shown,
    /// Kills seen of many at once, and attributed to the right container.
    Seen,
    /// Time from a container's start until its memory.oom.group is what the rule wants.
    Starts,
    /// The same while other processes want all processors, by the agent's CPU weight.
    Busy,
    /// Time from the start of the agent until it is ready.
    Ready,
    /// A scrape of 10,000 series, on this machine itself.
    Scrape,
    /// Wake-ups and CPU time when nothing happens.
    Idle,
    /// What the eBPF programs cost other processes: fork, exit, signal.
    Overhead,
    /// What `protectInit` costs those who fork, and how long children are exempt.
    ProtectInit,
    /// What `victimArguments` costs those who signal processes, and start and end them.
    VictimArguments,
    /// What a process that the OOM killer looks at costs.
    Candidates,
    /// What Kubernetes Events cost the agent in a storm of kills.
    Events,
    /// Sizes of the image and of the program.
    Sizes,
    /// An hour of kills, and of pods that come and go.
    Soak,
}

impl Measure {
    const ALL: [Measure; 15] = [
        Measure::Memory,
        Measure::Shown,
        Measure::Seen,
        Measure::Starts,
        Measure::Busy,
        Measure::Ready,
        Measure::Scrape,
        Measure::Idle,
        Measure::Overhead,
        Measure::ProtectInit,
        Measure::VictimArguments,
        Measure::Candidates,
        Measure::Events,
        Measure::Sizes,
        Measure::Soak,
    ];

    /// Its name in the guest and in the file.
    fn name(self) -> &'static str {
        match self {
            Measure::Memory => "memory",
            Measure::Shown => "shown",
            Measure::Seen => "seen",
            Measure::Starts => "starts",
            Measure::Busy => "busy",
            Measure::Ready => "ready",
            Measure::Scrape => "scrape",
            Measure::Idle => "idle",
            Measure::Overhead => "overhead",
            Measure::ProtectInit => "protect-init",
            Measure::VictimArguments => "victim-arguments",
            Measure::Candidates => "candidates",
            Measure::Events => "events",
            Measure::Sizes => "sizes",
            Measure::Soak => "soak",
        }
    }

    /// Whether its time is counted in instructions: what takes a moment is then the
    /// same on whatever host, and waiting takes no time.
    fn counts(self) -> bool {
        // cAdvisor looks at a thousand containers for too long if that is counted, and an
        // hour's work takes more than three if it is counted.
        !matches!(self, Measure::Memory | Measure::Scrape | Measure::Sizes | Measure::Soak)
    }

    /// Whether other programs are measured too.
    fn compares(self) -> bool {
        !matches!(
            self,
            Measure::Events | Measure::ProtectInit | Measure::VictimArguments | Measure::Candidates
        )
    }

    /// The parameters for the guest; none if no guest is needed.
    fn parameters(self, size: Size) -> Option<Vec<(&'static str, usize)>> {
        Some(match self {
            Measure::Memory => vec![("containers", size.of([30, 1000, 1000]))],
            Measure::Shown => {
                vec![("turns", size.of([1, 2, 10])), ("kills", size.of([4, 160, 3000]))]
            }
            Measure::Seen => {
                let groups = size.of([2, 20, 200]);
                let stopped = size.of([50, 3000, 3000]);
                vec![("kills", size.of([50, 1000, 5000])), ("groups", groups), ("stopped", stopped)]
            }
            Measure::Starts => vec![
                ("starts", size.of([4, 100, 1000])),
                ("starts-of-the-loop", size.of([4, 100, 200])),
                ("starts-of-the-slow-loop", size.of([4, 40, 100])),
            ],
            Measure::Busy => vec![("programs", size.of([4, 60, 400]))],
            Measure::Ready => {
                vec![("containers", size.of([30, 1000, 1000])), ("times", size.of([1, 3, 20]))]
            }
            Measure::Idle => vec![("seconds", size.of([10, 300, 3600]))],
            Measure::Overhead | Measure::VictimArguments => {
                vec![("turns", size.of([1, 10, 50]))]
            }
            Measure::ProtectInit => {
                vec![("turns", size.of([1, 10, 50])), ("forks", size.of([50, 500, 2000]))]
            }
            Measure::Candidates => vec![("processes", size.of([40, 200, 1000]))],
            Measure::Events => vec![("kills", size.of([50, 1000, 5000]))],
            Measure::Soak => vec![("minutes", size.of([2, 60, 60]))],
            Measure::Scrape | Measure::Sizes => return None,
        })
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// Just enough to show that the measure works.
    Smoke,
    /// About five minutes each, and an hour of the soak.
    Usual,
    /// As much as the goals require, which takes hours.
    Full,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Size::Smoke => "smoke",
            Size::Usual => "usual",
            Size::Full => "full",
        }
    }

    fn of(self, [smoke, usual, full]: [usize; 3]) -> usize {
        match self {
            Size::Smoke => smoke,
            Size::Usual => usual,
            Size::Full => full,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    if args.render {
        return Kept::read()?.write();
    }
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    let kernel = kernel::get(args.kernel)?;
    let measures = if args.only.is_empty() { &Measure::ALL[..] } else { &args.only };
    // A scrape is measured by a program of its own.
    let needs_agent = measures.iter().any(|measure| *measure != Measure::Scrape);
    let build = || build::for_vm(build::Architecture::Amd64, &build::Args::default());
    let built = needs_agent.then(build).transpose()?;
    let agent = || built.as_ref().context("the agent was not built");
    for measure in measures {
        let took = Instant::now();
        let about = about(&kernel, args.size, measure.counts())?;
        say(&format!("Measuring {} …", measure.name()));
        let figures = match (measure, measure.parameters(args.size)) {
            (Measure::Ready, Some(parameters)) => {
                let mut figures = vec![native::alone(agent()?)?];
                figures.extend(in_guest(*measure, parameters, &kernel, agent()?, args)?);
                figures
            }
            (_, Some(parameters)) => in_guest(*measure, parameters, &kernel, agent()?, args)?,
            (Measure::Scrape, None) => vec![native::scrape()?],
            (_, None) => vec![native::sizes(agent()?)?],
        };
        say(&format!("{}: {:.0} s", measure.name(), took.elapsed().as_secs_f64()));
        let result = json!({"about": about, "figures": figures});
        println!("{}", table::of(measure.name(), &result)?);
        if !args.no_keep {
            // Another measure may have been kept meanwhile.
            let mut kept = Kept::read()?;
            kept.put(measure.name(), result);
            kept.write()?;
        }
    }
    Ok(())
}

/// Boots a guest for one measure, and collects the figures that it says.
fn in_guest(
    measure: Measure,
    sizes: Vec<(&'static str, usize)>,
    kernel: &Kernel,
    built: &Built,
    args: &Args,
) -> Result<Vec<Value>> {
    let mut parameters = vec![("mode", "bench".into()), ("measure", measure.name().into())];
    parameters.extend(sizes.into_iter().map(|(name, size)| (name, size.to_string())));
    let vm = Vm {
        kernel,
        built,
        root: measure.compares().then(rootfs::bench).transpose()?,
        images: Vec::new(),
        parameters,
        // The file system is memory too, and for a moment twice.
        memory: 6144,
        timeout: Duration::from_secs(4 * 60 * 60),
        forward: None,
        counting: measure.counts(),
        verbose: args.verbose,
    };
    let mut figures = Vec::new();
    let verdict =
        vm.boot(&mut |line| match line.strip_prefix("figures: ").map(serde_json::from_str) {
            Some(Ok(found)) => {
                println!("{found}");
                figures.push(found);
            }
            _ => println!("{line}"),
        })?;
    if verdict.failed > 0 || figures.is_empty() {
        bail!("{} could not be measured", measure.name());
    }
    Ok(figures)
}

/// Under what circumstances something is measured.
fn about(kernel: &Kernel, size: Size, counted: bool) -> Result<Value> {
    let day = asked(Command::new("date").args(["-u", "+%Y-%m-%d"])).context("no date")?;
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let qemu = asked(Command::new("qemu-system-x86_64").arg("--version")).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(json!({
        "date": day.trim(),
        "kernel": kernel.release,
        "processor": model.map_or("unknown", |(_, model)| model),
        "processors": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "emulator": qemu.lines().next().unwrap_or("none"),
        "load before": load.split(' ').next().unwrap_or_default(),
        "size": size.name(),
        "counted": counted,
        "revision": build::source().map(|source| source.revision),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_on_the_page() {
        let measures = Measure::ALL.map(Measure::name);
        assert_eq!(measures.to_vec(), table::names());
    }
}
