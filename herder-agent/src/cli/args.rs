//! The command line. Every flag of `run` and `check` is also an environment variable.

mod explain;
mod own;
mod port;
mod source;
mod tls;

pub use explain::{ExplainArgs, WhichKill};
pub use own::SelfArgs;
pub use port::PortArgs;
pub use tls::TlsArgs;

use crate::kernel::source::SourceChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use herder_model::{cgroup::CgroupPath, owner::kubelet, rules::parse::LogLevel};
use std::path::PathBuf;

/// Reports every OOM kill on this node, and enforces memory.oom.group by rules.
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
    /// CAP_SYS_RESOURCE), and uid 0 to enforce memory.oom.group.
    Run(Box<RunArgs>),
    /// Check whether this node has what the agent needs, and how to fix what is
    /// missing. Changes nothing. Exits with 0 if the agent can work, else with 1.
    Check(CheckArgs),
    /// Show the last OOM kills that an agent has reported: the victim, its container
    /// and size, whose limit was hit, and whether the container survived.
    Kills(KillsArgs),
    /// Show the OOM kills of the pod that this runs in, by an agent that has --self-port.
    #[command(name = "self")]
    Own(SelfArgs),
    /// Explain one OOM kill: who used how much of the limit when the kernel killed, which
    /// processes it chose between, and what follows from that.
    Explain(ExplainArgs),
    /// Show the containers that a rule matches, with their memory.oom.group and the
    /// reason if it is not enforceable.
    Containers(ContainersArgs),
}

/// Which agent to ask, and how to print its answer.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Address of the agent, or of a proxy to it with its path. In a cluster, run
    /// `kubectl -n herder-system port-forward POD 9469` for the default.
    #[arg(long, env = "HERDER_URL", value_name = "URL", default_value = "http://127.0.0.1:9469")]
    pub url: String,
    /// How to reach it by TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// User name for an agent that requires a password.
    #[arg(long, short, env = "HERDER_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// File with the password. Default: the environment variable HERDER_PASSWORD.
    #[arg(long, env = "HERDER_PASSWORD_FILE", value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Output format.
    #[arg(long, short, env = "HERDER_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
}

/// Flags of `kills`.
#[derive(Debug, Args)]
pub struct KillsArgs {
    /// Which agent, and how.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Keep running, and print each new kill.
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last kills to print; the agent keeps 1,000.
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
    /// File with the rules and the log level (YAML). The agent reads it again when it changes and
    /// on SIGHUP.
    /// Without it, memory.oom.group is enforced only for pods with the annotation
    /// herder.dev/oom-group; all kills are reported.
    #[arg(long, env = "HERDER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read-write mount of the host's cgroup v2 hierarchy. It may also be the mount of a
    /// node that is a container, or a directory below a mount: paths of cgroups begin
    /// there, and kills outside are not reported.
    #[arg(long, env = "HERDER_CGROUP_ROOT", value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// Cgroup below which pods are looked for: the kubelet's own cgroup root, or kubepods
    /// itself. Several are separated by commas. Default: /kubepods, /kubepods.slice,
    /// /kubelet/kubepods, and /NAME.slice/NAME-kubepods.slice, as the systemd driver makes it
    /// below another cgroup root.
    #[arg(
        long,
        env = "HERDER_KUBELET_CGROUP_ROOT",
        value_name = "PATH",
        value_delimiter = ',',
        value_parser = kubelet::parse
    )]
    pub kubelet_cgroup_root: Vec<CgroupPath>,
    /// Directory of systemd's transient unit files, from which the agent learns which
    /// scopes systemd stops at any OOM kill (OOMPolicy=kill). May be missing.
    #[arg(
        long,
        env = "HERDER_SYSTEMD_TRANSIENT_DIR",
        value_name = "DIR",
        default_value = "/run/systemd/transient"
    )]
    pub systemd_transient_dir: PathBuf,
    /// The node's /proc, read-write: for rules with protectInit, which also need
    /// CAP_SYS_RESOURCE, --state-file and, for inits or children of other users,
    /// CAP_DAC_OVERRIDE. Only oom_score_adj of processes of protected containers is written
    /// there.
    #[arg(long, env = "HERDER_PROC_ROOT", value_name = "DIR", default_value = "/proc")]
    pub proc_root: PathBuf,
    /// Register as an NRI plugin of the container runtime, to set the value before a
    /// container is created. auto: if the socket exists; on: also warn if it does not;
    /// off: never.
    #[arg(long, env = "HERDER_NRI", value_enum, default_value = "auto")]
    pub nri: NriSwitch,
    /// Socket on which the container runtime listens for NRI plugins. Whatever may use it
    /// is root on this node.
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
    /// Flags that `check` has too.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Flags of the port that `check` has too.
    #[command(flatten)]
    pub port: PortArgs,
    /// Port of all IPv6 and IPv4 addresses on which a pod of this node may ask for its own
    /// OOM kills: /api/v1/self/kills and /api/v1/self/kills/stream (docs/self.md). The pod is
    /// known by the address that its connection comes from. Needs Kubernetes. Default: none.
    #[arg(
        long,
        env = "HERDER_SELF_PORT",
        value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub self_port: Option<u16>,
    /// Name of this node in Kubernetes.
    #[arg(long, env = "HERDER_NODE_NAME", value_name = "NAME", default_value_t = host_name())]
    pub node_name: String,
    /// Read the pods of this node from the Kubernetes API server. auto: in a pod with a
    /// service account; on: also with a kubeconfig, and fail without either; off: never. The
    /// connection is direct: HTTPS_PROXY is ignored, and a kubeconfig with proxy-url is
    /// rejected.
    #[arg(long, env = "HERDER_KUBERNETES", value_enum, default_value = "auto")]
    pub kubernetes: Switch,
    /// Emit Kubernetes Events on pods, about kills and enforcement. Needs the verbs create
    /// and patch for events. Has no effect without Kubernetes.
    #[arg(long, env = "HERDER_EVENTS", value_enum, default_value = "on")]
    pub events: EventSwitch,
    /// Directory of the runtime's bundles. With it, the agent knows a container's name
    /// before the container starts, not some seconds later. May be missing.
    #[arg(
        long,
        env = "HERDER_BUNDLE_DIR",
        value_name = "DIR",
        default_value = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
    )]
    pub bundle_dir: PathBuf,
    /// Format of log lines.
    #[arg(long, env = "HERDER_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Log level: error, warn, info, debug or trace; or others for some modules
    /// (`info,herder_agent::enforce=debug`). The key logLevel of the configuration file replaces
    /// it, and can be changed while the agent runs.
    #[arg(long, env = "HERDER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// Write nothing to cgroups: neither memory.oom.group nor cgroup.kill. Log what would be
    /// written.
    #[arg(long, env = "HERDER_DRY_RUN")]
    pub dry_run: bool,
    /// When the agent stops, restore the memory.oom.group that each container had before.
    /// Without this flag the values stay, so that a restart or update leaves no gap.
    #[arg(long, env = "HERDER_RESTORE_ON_EXIT")]
    pub restore_on_exit: bool,
    /// Seconds between two walks of all cgroups, which correct what was missed.
    #[arg(
        long,
        env = "HERDER_RESYNC_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub resync_seconds: u64,
    /// Seconds between two restarts of containers on this node by rules with
    /// `escalate: {to: restart}`. A restart that comes too early waits, as long as its
    /// container goes on losing processes.
    #[arg(
        long,
        env = "HERDER_ESCALATION_RESTART_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub escalation_restart_seconds: u64,
    /// Seconds that the series of a container stay after its pod is removed; outside of
    /// pods, after its cgroup is removed.
    #[arg(
        long,
        env = "HERDER_SERIES_RETENTION_SECONDS",
        value_name = "SECONDS",
        default_value_t = 900,
        value_parser = clap::value_parser!(u64).range(1..=86400)
    )]
    pub series_retention_seconds: u64,
    /// File that keeps the counts of kills and the values to restore for the next agent.
    /// Without it, kills that happen while no agent runs are not counted, and a restarted
    /// agent does not restore values of containers that it found.
    #[arg(long, env = "HERDER_STATE_FILE", value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Source of kills. ebpf: full reports; memory-events: the kernel's counts of each
    /// cgroup, without the victim's process, needs neither capabilities nor BTF; auto: ebpf,
    /// or memory-events if the kernel refuses it.
    #[arg(long, env = "HERDER_SOURCE", value_enum, default_value = "auto")]
    pub source: SourceChoice,
    /// Do not use the kernel's BTF, for kernels whose BTF is wrong. Victims are then
    /// described when they exit, and limit and group are read from the cgroups' files.
    #[arg(long, env = "HERDER_NO_BTF")]
    pub no_btf: bool,
    /// Do not trace the kernel's functions. Which processes were killed together, and by whose
    /// limit, is then read from the cgroups at the moment of the kill, as on kernels whose
    /// functions cannot be traced.
    #[arg(long, env = "HERDER_NO_FUNCTIONS")]
    pub no_functions: bool,
    /// Size of the ring buffer of kills in bytes, rounded up to a power of two of whole pages.
    #[arg(long, env = "HERDER_KILL_RING_BYTES", value_name = "BYTES")]
    pub kill_ring_bytes: Option<u32>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Flags that `run` has too.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The port's, of the agent that is to run here.
    #[command(flatten)]
    pub port: PortArgs,
}

/// Whether to use something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// If it is available.
    Auto,
    /// Always; fail if it is not available.
    On,
    /// Never.
    Off,
}

/// Whether to register as an NRI plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NriSwitch {
    /// If the socket exists, now or later.
    Auto,
    /// The same, and warn if the socket does not exist.
    On,
    /// Never.
    Off,
}

/// Whether to write Kubernetes Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventSwitch {
    /// Always.
    On,
    /// Never.
    Off,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// The agent's JSON, one object per line.
    Json,
}

/// Formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
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
        assert_eq!(run.port.listen, []);
        assert!(!run.dry_run && !run.restore_on_exit && run.node.config.is_none());
        let listen = ["a", "run", "--listen", "[::1]:80,127.0.0.1:81", "--listen", "[::]:82"];
        let Task::Run(run) = Cli::try_parse_from(listen).unwrap().task else { panic!() };
        assert_eq!(run.port.listen.iter().map(|at| at.port()).collect::<Vec<_>>(), [80, 81, 82]);
        for bad in [
            &["a", "run", "--listen", "9469"][..],
            &["a", "run", "--listen", "[::1]:80,"],
            &["a", "run", "--resync-seconds", "0"],
            &["a", "run", "--kubernetes", "maybe"],
            &["a", "run", "--events", "auto"],
            &["a", "run", "--source", "perf"],
            &["a", "run", "--kubelet-cgroup-root", "kubelet"],
            &["a", "run", "--nri", "maybe"],
            &["a", "run", "--log-level", "inof"],
            &["a", "run", "--series-retention-seconds", "0"],
            &["a", "run", "--self-port", "0"],
            &["a", "explain", "first"],
            &["a", "explain", "-1"],
            &["a"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
