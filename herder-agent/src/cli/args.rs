//! The command line. Every flag of `run` and `check` is an environment variable too.

use crate::kernel::source::SourceChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use herder_model::{cgroup::CgroupPath, owner::kubelet};
use std::{net::SocketAddr, path::PathBuf};

/// Sees every OOM kill on this node, and steers memory.oom.group by policy.
#[derive(Debug, Parser)]
#[command(name = "herder-agent", version = VERSION)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// Version and revision.
const VERSION: &str = match option_env!("HERDER_REVISION") {
    Some(_) => concat!(env!("CARGO_PKG_VERSION"), " (revision in herder_build_info)"),
    None => env!("CARGO_PKG_VERSION"),
};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Run the agent. Needs CAP_BPF and CAP_PERFMON (below Linux 5.11 also
    /// CAP_SYS_RESOURCE), and uid 0 to write memory.oom.group.
    Run(Box<RunArgs>),
    /// Tell whether this node has what the agent needs, and how to mend what is
    /// missing. Changes nothing. Ends with 0 if the agent can work, else with 1.
    Check(CheckArgs),
    /// Show the last OOM kills that the agent of a node has seen: who, where, how
    /// big, did the container survive.
    Kills(KillsArgs),
    /// Show the containers that a rule matches, with their memory.oom.group and
    /// what stands in the way.
    Containers(ContainersArgs),
}

/// Which agent to ask, and how to print what it says.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Address of the agent, or of a proxy to it with its path. In a cluster: kubectl -n
    /// herder-system port-forward POD 9469.
    #[arg(long, env = "HERDER_URL", value_name = "URL", default_value = "http://127.0.0.1:9469")]
    pub url: String,
    /// How to print it.
    #[arg(long, short, env = "HERDER_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
}

/// Flags of `kills`.
#[derive(Debug, Args)]
pub struct KillsArgs {
    /// Which agent, and how.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Go on and print each new one, until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last to print; the agent keeps 1,000.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    pub limit: u32,
}

/// Flags of `containers`.
#[derive(Debug, Args)]
pub struct ContainersArgs {
    /// Which agent, and how.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of both subcommands.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// File with the rules (YAML). Without it only pods that ask for it by their
    /// annotation are steered; kills are reported all the same. Read again when it
    /// changes and on SIGHUP.
    #[arg(long, env = "HERDER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the cgroup v2 hierarchy is mounted, read-write, as the host sees it. It may
    /// be a part of it, for a node that is a container, or a directory below the mount:
    /// paths of cgroups begin there, and kills elsewhere are ignored.
    #[arg(long, env = "HERDER_CGROUP_ROOT", value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// Below which cgroups of the mount the kubelet makes its pods: its own --cgroup-root,
    /// or the cgroup kubepods itself. By default where kubelets have it: /kubepods,
    /// /kubepods.slice, /kubelet/kubepods, and what systemd's driver makes of another
    /// --cgroup-root (/NAME.slice/NAME-kubepods.slice). May be several, with commas.
    #[arg(
        long,
        env = "HERDER_KUBELET_CGROUP_ROOT",
        value_name = "PATH",
        value_delimiter = ',',
        value_parser = kubelet::parse
    )]
    pub kubelet_cgroup_root: Vec<CgroupPath>,
    /// Where systemd keeps the unit files of transient scopes; read to find scopes
    /// that systemd stops at any OOM kill (OOMPolicy=kill). May be missing.
    #[arg(
        long,
        env = "HERDER_SYSTEMD_TRANSIENT_DIR",
        value_name = "DIR",
        default_value = "/run/systemd/transient"
    )]
    pub systemd_transient_dir: PathBuf,
    /// Whether to be asked by the container runtime before it makes a container (NRI):
    /// `auto` is if it offers that, `on` also says so if it does not.
    #[arg(long, env = "HERDER_NRI", value_enum, default_value = "auto")]
    pub nri: NriSwitch,
    /// Where the container runtime listens for plugins (NRI). Who may use it is root on
    /// this node.
    #[arg(
        long,
        env = "HERDER_NRI_SOCKET",
        value_name = "SOCKET",
        default_value = "/var/run/nri/nri.sock"
    )]
    pub nri_socket: PathBuf,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What `check` takes too.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Address of the page, /metrics, /livez, /readyz and /api/v1; may be given several
    /// times, or as a list with commas. Without it, port 9469 of all addresses, of IPv6 and
    /// IPv4 or of whichever the node has.
    #[arg(long, env = "HERDER_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Name of this node, as Kubernetes knows it.
    #[arg(long, env = "HERDER_NODE_NAME", value_name = "NAME", default_value_t = host_name())]
    pub node_name: String,
    /// Whether to ask a Kubernetes API server for the pods of this node: `auto`
    /// does so in a pod with a service account, `on` also with a kubeconfig. The
    /// connection is direct: HTTPS_PROXY is ignored, and a kubeconfig's proxy-url refused.
    #[arg(long, env = "HERDER_KUBERNETES", value_enum, default_value = "auto")]
    pub kubernetes: Switch,
    /// Whether to tell pods' owners of kills and of enforcement by Kubernetes
    /// Events. Needs the verbs create and patch for events; has no effect without
    /// Kubernetes.
    #[arg(long, env = "HERDER_EVENTS", value_enum, default_value = "on")]
    pub events: EventSwitch,
    /// Where the runtime keeps the bundles of pods' containers; names are then
    /// known before a container starts, and not seconds later. May be missing.
    #[arg(
        long,
        env = "HERDER_BUNDLE_DIR",
        value_name = "DIR",
        default_value = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
    )]
    pub bundle_dir: PathBuf,
    /// How log lines look.
    #[arg(long, env = "HERDER_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or by module
    /// (`info,herder_agent::enforce=debug`).
    #[arg(long, env = "HERDER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Write nothing; log what would be written.
    #[arg(long, env = "HERDER_DRY_RUN")]
    pub dry_run: bool,
    /// At the end, give each container the memory.oom.group back that it had
    /// before. Without it the values stay as they are, so that a restart or
    /// update of the agent leaves no gap.
    #[arg(long, env = "HERDER_RESTORE_ON_EXIT")]
    pub restore_on_exit: bool,
    /// How often everything is read again, as a safety net, seconds.
    #[arg(
        long,
        env = "HERDER_RESYNC_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub resync_seconds: u64,
    /// How long the metrics of a container stay after its pod, or its cgroup
    /// outside of pods, is gone, seconds.
    #[arg(
        long,
        env = "HERDER_SERIES_RETENTION_SECONDS",
        value_name = "SECONDS",
        default_value_t = 900,
        value_parser = clap::value_parser!(u64).range(1..=86400)
    )]
    pub series_retention_seconds: u64,
    /// File in which an agent leaves to the next one how many kills were known and
    /// which values to give back. Without it, nobody tells of what was killed while
    /// no agent ran, and values are not given back over a restart.
    #[arg(long, env = "HERDER_STATE_FILE", value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Where kills are heard of: `ebpf` tells who died, whose limit was hit and what was
    /// killed together; `memory-events` counts killed processes of each cgroup, as the
    /// kernel does, and needs neither capabilities nor BTF. `auto` takes the second where
    /// the kernel refuses the first.
    #[arg(long, env = "HERDER_SOURCE", value_enum, default_value = "auto")]
    pub source: SourceChoice,
    /// Do not use the kernel's BTF: victims are then described when they exit, limit and
    /// group are read from the cgroups' files. For kernels whose BTF is wrong.
    #[arg(long, env = "HERDER_NO_BTF")]
    pub no_btf: bool,
    /// Size of the ring buffer of kills, bytes: a power of two of whole pages.
    #[arg(long, env = "HERDER_KILL_RING_BYTES", value_name = "BYTES")]
    pub kill_ring_bytes: Option<u32>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What `run` takes too.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Whether to use something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// If it is there.
    Auto,
    /// Yes; it is an error if it is not there.
    On,
    /// No.
    Off,
}

/// Whether to be asked by the container runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NriSwitch {
    /// If it offers that, now or later.
    Auto,
    /// Yes; it is told if it does not offer it, and the agent works all the same.
    On,
    /// No.
    Off,
}

/// Whether to write Kubernetes Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventSwitch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// As the agent has it: one object a line.
    Json,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable_and_has_a_help_text() {
        for name in ["run", "check"] {
            let command = Cli::command().find_subcommand(name).unwrap().clone();
            for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
                let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
                assert_eq!(variable, Some(format!("HERDER_{flag}")));
                assert!(argument.get_help().is_some(), "{flag}");
            }
        }
    }

    #[test]
    fn defaults_and_mistakes() {
        let Task::Run(run) = Cli::try_parse_from(["a", "run"]).unwrap().task else { panic!() };
        assert_eq!(run.listen, []);
        assert!(!run.dry_run && !run.restore_on_exit && run.node.config.is_none());
        let listen = ["a", "run", "--listen", "[::1]:80,127.0.0.1:81", "--listen", "[::]:82"];
        let Task::Run(run) = Cli::try_parse_from(listen).unwrap().task else { panic!() };
        assert_eq!(run.listen.iter().map(SocketAddr::port).collect::<Vec<_>>(), [80, 81, 82]);
        for bad in [
            &["a", "run", "--listen", "9469"][..],
            &["a", "run", "--listen", "[::1]:80,"],
            &["a", "run", "--resync-seconds", "0"],
            &["a", "run", "--kubernetes", "maybe"],
            &["a", "run", "--events", "auto"],
            &["a", "run", "--source", "perf"],
            &["a", "run", "--kubelet-cgroup-root", "kubelet"],
            &["a", "run", "--nri", "maybe"],
            &["a", "run", "--series-retention-seconds", "0"],
            &["a"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
