//! The checks, in the order in which they matter.

use super::{
    Authenticates, Finding, Outcome, arguments, enforcement, finding, kubelet, ok, shield, warn,
};
use crate::{
    cli::{
        args::{CheckArgs, NriSwitch},
        config::{self, ConfigError, Loaded},
    },
    enforce::stopping_policy,
    kernel::{
        cgroupfs::dir::{CgroupRoot, SpecError},
        probe::{self, KernelFacts, MarkArgument, Probe, ProbeError, ProbeOptions},
        process::has,
        source::MemoryEvents,
    },
};
use herder_model::{
    cgroup::CgroupId,
    oom::event::{Means, Traced},
};
use rustix::thread::CapabilitySet;
use std::{fs, os::unix::fs::FileTypeExt, path::Path};

pub(super) fn all(
    check: &CheckArgs,
    authenticates: Authenticates<'_>,
) -> Vec<(&'static str, Finding)> {
    let args = &check.node;
    // Without programs kills can still be counted, if the hierarchy is there.
    let without_programs =
        if MemoryEvents::new(&args.cgroup_root).is_ok() { Outcome::Warn } else { Outcome::Fail };
    let facts = fs::read(probe::VMLINUX).ok().and_then(|bytes| KernelFacts::read(&bytes).ok());
    let loaded = args.config.as_deref().map(config::load).transpose();
    let mut findings = vec![
        ("kernel", kernel()),
        ("BTF", btf(facts.as_ref())),
        ("tracepoint", tracepoint(facts.as_ref())),
        ("exiting processes", exiting(facts.as_ref())),
        ("capabilities", capabilities(without_programs)),
        ("eBPF programs", attach(without_programs)),
        ("cgroup v2", mount(&args.cgroup_root)),
        ("memory controller", controller(&args.cgroup_root)),
        ("pods' cgroups", kubelet::pods(&args.cgroup_root, &args.kubelet_cgroup_root)),
        ("systemd", systemd(&args.systemd_transient_dir)),
        ("NRI", nri(args.nri, specs(&args.cgroup_root), &args.nri_socket)),
        ("configuration", configuration(args.config.as_deref(), &loaded)),
    ];
    // Of a file that is refused, what its rules are is not known.
    if let Ok(loaded) = loaded {
        let config = loaded.unwrap_or_default().config;
        findings.extend(shield::protection(args, &config, facts.as_ref()));
        findings.extend(arguments::arguments(check, &config, facts.as_ref(), authenticates));
        findings.extend(enforcement::all(args, &config));
    }
    findings
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let found = format!(
        "Linux {} {}",
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    );
    ok(found)
}

fn btf(facts: Option<&KernelFacts>) -> Finding {
    match facts {
        Some(facts) => {
            let unknown = facts.layout.words().iter().filter(|word| **word == u32::MAX).count();
            let found = format!("{}, {unknown} of the needed fields missing", probe::VMLINUX);
            if facts.describes_at_mark() {
                return ok(found);
            }
            let mend = "use another build of this kernel, or a newer kernel; until then kills are reported when the victim exits";
            warn(found, mend)
        }
        None => warn(
            format!("{} is missing, or is not BTF", probe::VMLINUX),
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y; without it kills are reported when the victim exits, and their limit is read from memory.events.local",
        ),
    }
}

fn tracepoint(facts: Option<&KernelFacts>) -> Finding {
    match facts.map(|facts| facts.mark) {
        Some(MarkArgument::Task) => ok("oom:mark_victim gives the task"),
        Some(MarkArgument::Pid) => ok(
            "oom:mark_victim gives a thread id; mark_oom_victim(), or the signal before it, gives the task",
        ),
        _ => {
            warn("the form of oom:mark_victim is not known", "victims are described when they exit")
        }
    }
}

/// Whether a small init is safe in single-process mode. The kernel has no switch and no number
/// for it, so its own types are asked.
fn exiting(facts: Option<&KernelFacts>) -> Finding {
    match facts.map(|facts| facts.hides_exiting) {
        Some(false) => ok(
            "the OOM killer sees a victim until its memory is nearly free; a small init is seldom killed",
        ),
        Some(true) => warn(
            "the OOM killer does not see a victim that exits: on this kernel single-process mode can still kill the init, however small, while its children are exiting",
            "a rule with protectInit: true exempts the init; docs/runbook.md (HerderInitKilled) says what it takes, and what makes it rarer without",
        ),
        None => warn(
            "not known without BTF whether the OOM killer waits for a victim that exits",
            "see BTF",
        ),
    }
}

fn capabilities(without_programs: Outcome) -> Finding {
    let wanted = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
        (CapabilitySet::SYS_RESOURCE, "CAP_SYS_RESOURCE"),
    ];
    let all = has(CapabilitySet::SYS_ADMIN);
    let missing: Vec<_> =
        wanted.into_iter().filter(|(set, _)| !all && !has(*set)).map(|(_, name)| name).collect();
    match missing[..] {
        [] => ok("CAP_BPF and CAP_PERFMON are present"),
        ["CAP_SYS_RESOURCE"] => ok(
            "CAP_BPF and CAP_PERFMON are present; CAP_SYS_RESOURCE is missing, and only kernels below 5.11 need it",
        ),
        _ => finding(
            without_programs,
            format!("missing: {}", missing.join(", ")),
            "grant them: capabilities.add: [BPF, PERFMON] in a pod, AmbientCapabilities= in a systemd unit; without them kills are only counted (--source memory-events)",
        ),
    }
}

fn attach(without_programs: Outcome) -> Finding {
    let mount = CgroupId::HIERARCHY_ROOT;
    match Probe::attach(ProbeOptions { btf: true, functions: true, kill_ring_bytes: None, mount }) {
        Ok(probe) => {
            let traced = probe.traced;
            attached(&traced)
        }
        Err(error) => finding(
            if matches!(error, ProbeError::Stub) { Outcome::Fail } else { without_programs },
            error.to_string(),
            match error {
                ProbeError::Stub => "run `cargo xtask build`",
                ProbeError::Load(_) | ProbeError::Attach { .. } => {
                    "add the missing capabilities above; if none is missing, see `dmesg` for lockdown, and the container's seccomp and AppArmor profiles"
                }
                _ => "build the agent and its eBPF object together",
            },
        ),
    }
}

/// By what means kills are distinguished here, and what of it is attached.
fn attached(traced: &Traced) -> Finding {
    let means = traced.means();
    let parts = match means {
        Means::Functions => [("signals", traced.kills), ("groups", traced.groups)],
        _ => [("signals", traced.signals_since.is_some()), ("groups", traced.levels)],
    };
    let parts = [&parts[..], &[("exits", traced.exits), ("cgroups", traced.cgroups)]].concat();
    let names = |there: bool| {
        let some = parts.iter().filter(|(_, is)| *is == there).map(|(name, _)| *name);
        some.collect::<Vec<_>>().join(", ")
    };
    let by = match means {
        Means::Functions => "functions: the kernel's decisions are traced",
        Means::Tracepoints => {
            "tracepoints: functions cannot be traced; limits and groups are read from the kernel's memory when a victim is marked"
        }
        Means::Files | Means::Counts => {
            "files: functions cannot be traced, and there is no BTF; limits are read from memory.events.local instead, groups from memory.oom.group"
        }
    };
    match names(false) {
        none if none.is_empty() => ok(format!("{by}; attached: {}", names(true))),
        missing => warn(
            format!("{by}; attached: {}; not: {missing}", names(true)),
            "use a kernel with BTF (CONFIG_DEBUG_INFO_BTF); without what is missing reports of kills are incomplete. `run` logs the kernel's reason",
        ),
    }
}

fn mount(root: &Path) -> Finding {
    match CgroupRoot::open(root) {
        Ok(opened) if opened.id() == CgroupId::HIERARCHY_ROOT => {
            ok(format!("{}, the whole hierarchy", root.display()))
        }
        Ok(opened) => ok(format!(
            "{} shows a part of the hierarchy, below cgroup {}: paths in rules begin there, kills outside of it are not reported, and memory.oom.group of the cgroups above it is unknown",
            root.display(),
            opened.id().0
        )),
        Err(error) => warn(
            error.to_string(),
            "kills are still reported, but memory.oom.group cannot be enforced",
        ),
    }
}

fn controller(root: &Path) -> Finding {
    let file = root.join("cgroup.controllers");
    let controllers = fs::read_to_string(&file).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == "memory") {
        return ok("enabled");
    }
    warn(
        format!("not in {}", file.display()),
        "boot without cgroup_disable=memory, and with the controller on cgroup v2",
    )
}

fn systemd(transient: &Path) -> Finding {
    let units = fs::read_dir(transient).into_iter().flatten().flatten();
    let stops: Vec<_> = units
        .filter(|unit| {
            unit.file_name().to_string_lossy().ends_with(".scope")
                && fs::read_to_string(unit.path())
                    .is_ok_and(|text| stopping_policy(&text).is_some())
        })
        .map(|unit| unit.file_name().to_string_lossy().into_owned())
        .collect();
    match stops.first() {
        None if transient.is_dir() => ok("systemd stops no running scope at an OOM kill"),
        None => ok(format!("no {}; nothing to check", transient.display())),
        Some(first) => warn(
            format!("systemd stops {} scopes at any OOM kill, for example {first}", stops.len()),
            "if a rule matches such a scope, create it with OOMPolicy=continue or Delegate=yes (for pods: kubelet singleProcessOOMKill, or NRI)",
        ),
    }
}

fn specs(root: &Path) -> Result<(), SpecError> {
    CgroupRoot::takes_specs(CgroupRoot::open(root).ok().as_ref())
}

/// Looks, and does not connect: the runtime would wait five seconds for a plugin that
/// does not register, and take no other meanwhile.
fn nri(switch: NriSwitch, specs: Result<(), SpecError>, socket: &Path) -> Finding {
    let path = socket.display();
    let there = fs::metadata(socket).is_ok_and(|about| about.file_type().is_socket());
    let after = "values are corrected after the runtime wrote them, before the program starts";
    match (switch, there) {
        (NriSwitch::Off, _) => ok(format!("not used (--nri off): {after}")),
        _ if let Err(error) = specs => warn(
            format!("not used: {error}"),
            "boot with cgroup v2 and its memory controller, and let --cgroup-root be its mount; or use --nri off",
        ),
        (_, true) => ok(format!(
            "{path} exists: if the runtime listens on it (see herder_nri_connected), it creates containers with the rule's value"
        )),
        (switch, false) => finding(
            if switch == NriSwitch::On { Outcome::Warn } else { Outcome::Ok },
            format!("no socket {path}: {after}"),
            "needed only where a runtime has systemd stop containers at any OOM kill (OOMPolicy=kill): containerd from 2.0 and CRI-O from 1.30 have NRI on, containerd 1.7 needs disable = false in [plugins.\"io.containerd.nri.v1.nri\"]; in a pod, deploy/components/nri",
        ),
    }
}

fn configuration(path: Option<&Path>, loaded: &Result<Option<Loaded>, ConfigError>) -> Finding {
    match (path, loaded) {
        (Some(path), Ok(Some(Loaded { config, hash }))) => {
            let (path, rules) = (path.display(), config.rules.len());
            let level = config.log_level.as_ref();
            let level = level.map_or(String::new(), |level| format!(", log level {level}"));
            let found = format!("{path}: {rules} rules, hash {hash}{level}");
            ok(found)
        }
        (_, Err(error)) => finding(Outcome::Fail, error.to_string(), "correct the file"),
        _ => ok("none given: memory.oom.group is enforced only for pods with the annotation"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A node says by what means kills are distinguished, and is warned of only if something is
    /// missing that nothing stands in for.
    #[test]
    fn what_stands_in_for_functions_is_named() {
        let now = Some(herder_model::clock::Monotonic::ZERO);
        let common = Traced { exits: true, cgroups: true, ..Traced::default() };
        let functions = Traced { decisions_since: now, kills: true, groups: true, ..common };
        let tracepoints = Traced { signals_since: now, levels: true, ..common };
        let files = Traced { signals_since: now, ..common };
        for (traced, means, outcome) in [
            (functions, "functions:", Outcome::Ok),
            (Traced { groups: false, ..functions }, "functions:", Outcome::Warn),
            (tracepoints, "tracepoints:", Outcome::Ok),
            (Traced { signals_since: None, ..tracepoints }, "tracepoints:", Outcome::Warn),
            (Traced { exits: false, ..tracepoints }, "tracepoints:", Outcome::Warn),
            (files, "files:", Outcome::Warn),
        ] {
            let finding = attached(&traced);
            assert!(finding.found.starts_with(means), "{}", finding.found);
            assert_eq!(finding.outcome, outcome, "{}", finding.found);
        }
    }

    #[test]
    fn the_runtimes_socket_is_looked_for_and_never_connected_to() {
        let socket = std::env::temp_dir().join(format!("herder-check-nri-{}", std::process::id()));
        let _ = fs::remove_file(&socket);
        let outcome = |switch| nri(switch, Ok(()), &socket).outcome;
        let found = || nri(NriSwitch::On, Ok(()), &socket).found;
        let all = [NriSwitch::Off, NriSwitch::Auto, NriSwitch::On];
        assert_eq!(all.map(outcome), [Outcome::Ok, Outcome::Ok, Outcome::Warn]);
        assert!(found().contains("no socket"));
        fs::write(&socket, "").unwrap();
        assert!(found().contains("no socket"), "a file is none");
        fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(all.map(outcome), [Outcome::Ok; 3]);
        assert!(found().contains("exists"));
        assert!(listener.accept().is_err(), "no client has connected");
        let on_v1 = all.map(|switch| nri(switch, Err(SpecError::NoRoot), &socket));
        assert_eq!(
            on_v1.each_ref().map(|it| it.outcome),
            [Outcome::Ok, Outcome::Warn, Outcome::Warn]
        );
        assert!(on_v1[2].found.contains("cgroup v1"), "{}", on_v1[2].found);
        fs::remove_file(&socket).unwrap();
    }
}
