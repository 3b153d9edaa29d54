//! Wiring: starts the core on its own thread, serves on this one, and ends both
//! in order.

mod cluster;
mod guard;
mod meanwhile;
mod own;
mod reload;

use crate::{
    cli::{
        args::{NriSwitch, RunArgs},
        config::{self, ConfigError},
        telemetry::Telemetry,
    },
    core::{CgroupMount, Core, CoreConfig, Inbox, Notices},
    enforce::{BUILT_WITHIN, Enforcer, Options, restart_channel, shield::Parts},
    kernel::{
        cgroupfs::{CgroupFs, dir::CgroupRoot},
        clock::Clock,
        host_proc::HostProc,
        probe::{KernelFacts, ProbeOptions, forks::ForkLoader},
        process::{
            self,
            scheduling::{Urgency, raise_priority},
        },
        source::{self, Source, SourceError},
    },
    kubernetes::{
        self,
        client::{ConnectError, OnFailure, Times},
        pods::Followers,
    },
    report::{ConfigInForce, Reporter, heartbeat::Heartbeat, requests::StatesRequest},
    runtime::{bundle::Bundles, nri, roles},
    serve::{self, Listeners, Readiness, ServeError, State, access::AccessError},
};
pub use guard::authenticates;
use guard::{Guard, Rules};
use herder_model::{
    cgroup::CgroupId, naming::Naming, owner::kubelet::KubeletRoots, pods::current::CurrentPods,
    rules::matching::Policy,
};
use reload::{Log, Reload};
use std::{io, net::SocketAddr, path::Path, sync::Arc, thread, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Messages of one kind that may wait for the core.
const MESSAGES: usize = 64;

/// How long requests that are being answered may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(3);

/// How long the last Events may take after that.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// When what only the start needs is let go once more: the first list of pods, and the
/// values of what ran before.
const STARTED: Duration = Duration::from_secs(10);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("cannot start {what}: {source}")]
    Start { what: &'static str, source: io::Error },
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
    #[error("the core task ended: {0}")]
    Core(String),
}

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(args: &RunArgs, telemetry: &Telemetry) -> Result<(), AgentError> {
    process::memory::no_huge_pages();
    // As the shield asks for it later.
    let can_protect = HostProc::open(&args.node.proc_root).is_ok();
    let descriptors = process::limits::raise(can_protect);
    let path = args.node.config.as_deref();
    let loaded = path.map(config::read).transpose()?;
    let config = path.zip(loaded.as_deref()).map(|(path, text)| reload::taken(path, text));
    let config = config.transpose()?.unwrap_or_default();
    let log = Log { default: args.log_level.clone(), switch: telemetry.levels() };
    let log_level = log.take(&config)?;
    let retention = Duration::from_secs(args.series_retention_seconds);
    let reporter = Arc::new(Reporter::new(retention, Clock::System));
    let hash = loaded.as_deref().map_or_else(|| ConfigInForce::NO_FILE.into(), config::hash);
    reporter.config_begins(ConfigInForce { hash, log_level });
    let runtime = start(current_thread(), "the server's runtime")?;
    // Before anything that takes time: SIGHUP would end the process.
    let hangup = runtime.block_on(async { signal(SignalKind::hangup()) });
    let hangup = start(hangup, "waiting for SIGHUP")?;
    let web = args.port.web_config_file.clone();
    let web = runtime.block_on(async { web.map(reload::access::start).transpose() })?;
    let (access, access_reload) = web.unzip();
    let listeners = runtime.block_on(async { serve::bind(&args.port.listen) })?;
    let listen = listeners.addresses();
    let mut guard = Guard::new(args.port.is_local(), access.clone());
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let config = guard.accept(config, &name).map_err(ConfigError::from)?;
    let for_pods = runtime.block_on(async { own::bind(args) })?;

    let counted = reporter.clone();
    let on_failure: OnFailure = Arc::new(move |failure| counted.api_error(failure));
    let api_server = runtime.block_on(cluster::api_server(args.kubernetes, on_failure))?;
    let (events, writer) = cluster::events(args, api_server.as_ref(), &reporter).unzip();

    let readiness = Readiness::default();
    let walked = readiness.latch("first walk of the cgroups");
    let attached = readiness.latch("source of kills");
    let root = open_root(&args.node.cgroup_root);
    let (state_file, mut state) = meanwhile::left(args.state_file.as_deref());
    let left_inits = std::mem::take(&mut state.inits);
    // Before the source is read, so that its events did not happen before.
    let mount = &args.node.cgroup_root;
    let begins_at = root.as_ref().map_or(CgroupId::HIERARCHY_ROOT, CgroupRoot::id);
    let files = CgroupFs::new(mount.clone());
    let (left, node_before) = meanwhile::report(state, root.as_ref(), &files, &reporter);
    let programs = ProbeOptions {
        btf: !args.no_btf,
        functions: !args.no_functions,
        kill_ring_bytes: args.kill_ring_bytes,
        mount: begins_at,
    };
    let source = source::attach(args.source, programs, mount)?;
    // Also before other threads open files.
    let facts = source.facts().filter(|facts| **facts != KernelFacts::UNKNOWN);
    let fork_loader = facts.copied().map(ForkLoader::new);
    attached.release();
    process::memory::trim_heap();
    process::memory::let_file_go();
    runtime.spawn(async {
        tokio::time::sleep(STARTED).await;
        process::memory::trim_heap();
        process::memory::let_file_go();
    });
    reporter.attached(source.name(), source.means());
    reporter.ebpf_refused(source.replaces_ebpf());
    log_attached(args, &*source, &listen);

    let asks_runtime = asks_runtime(args.node.nri, root.as_ref());
    let enforcer = Enforcer::new(root, options(args, descriptors.containers), Clock::System);
    let enforcer = enforcer.with_left(left);
    let policy = Arc::new(Policy::new(config));
    let heartbeat = Heartbeat::default();
    let awaited = nri::Awaited::default();
    let bundles = Bundles::new(args.bundle_dir.clone());
    let (role_requests, lookups, roles) = roles::channel();
    let (restart_requests, restart_writer, restarts) = restart_channel();
    let shield = Parts {
        proc_root: args.node.proc_root.clone(),
        cgroup_root: mount.clone(),
        begins_at,
        loader: fork_loader,
        has_state: state_file.is_some(),
        most: descriptors.inits,
        dry_run: args.dry_run,
        left: left_inits,
        listener: reporter.clone(),
    };
    let core = Core::new(CoreConfig {
        clock: Clock::System,
        heartbeat: heartbeat.clone(),
        source,
        policy: policy.clone(),
        enforcer,
        restarts: (restart_requests, Duration::from_secs(args.escalation_restart_seconds)),
        reporter: reporter.clone(),
        hierarchy: CgroupMount {
            root: mount.clone(),
            begins_at,
            kubelet_uid: 0,
            resync_every: Duration::from_secs(args.resync_seconds),
        },
        naming: Naming::new(api_server.is_some())
            .below(KubeletRoots::given(&args.node.kubelet_cgroup_root)),
        role_requests,
        notices: Notices::new(events),
        state_file,
        node_before,
        awaited: awaited.clone(),
        shield: Some(shield),
    });
    let (policies, followed) = watch::channel(policy);
    let rules = Rules::new(args.port.is_local(), followed.clone());
    let (pod_events, pods) = mpsc::channel(MESSAGES);
    let (to_learn, learnt) = mpsc::channel(MESSAGES);
    let (asked, states) = mpsc::channel(MESSAGES);
    let (connects, connected) = mpsc::channel(MESSAGES);
    let (stop_core, stop) = oneshot::channel();
    let inbox =
        Inbox { policy: followed.clone(), pods, learnt, roles, restarts, states, connected, stop };
    let core_runtime = start(current_thread(), "the core's runtime")?;
    core_runtime.spawn(restart_writer.run());
    let (end, ended) = oneshot::channel();
    let core = thread::Builder::new().name("core".into()).spawn(move || {
        raise_priority(Urgency::First);
        // The receiver may have given up waiting.
        let _ = end.send(core_runtime.block_on(core.run(inbox, || walked.release())));
    });
    start(core, "the core's thread")?;
    // What a bundle says decides over the value of a container that is starting.
    let reading =
        start(Builder::new_current_thread().enable_time().build(), "the bundles' runtime")?;
    let thread = thread::Builder::new().name("bundles".into()).spawn(move || {
        raise_priority(Urgency::Second);
        reading.block_on(lookups.run(move |id| bundles.look(id)));
    });
    start(thread, "the thread that reads bundles")?;

    let for_pods = for_pods.map(|listeners| own::port(listeners, connects, api_server.is_some()));
    let current = CurrentPods::new(api_server.is_some());
    if let Some(server) = api_server {
        let node = args.node_name.clone();
        let pace = Times::default().pace;
        let current = asks_runtime.then(|| current.clone());
        let to = Followers { events: pod_events, current };
        runtime.spawn(async move {
            kubernetes::pods::watch(server, &node, pace, to).await;
        });
    }
    if asks_runtime {
        let plugin = nri::Plugin {
            socket: args.node.nri_socket.clone(),
            expected: args.node.nri == NriSwitch::On,
            dry_run: args.dry_run,
            policies: followed,
            pods: current,
            awaited,
            listener: reporter.clone(),
            learnt: to_learn,
        };
        // On a thread of its own: the runtime waits for each answer, and a scrape or a
        // list of pods would keep it waiting.
        let runtime = start(current_thread(), "the runtime of NRI")?;
        let thread = thread::Builder::new().name("nri".into()).spawn(move || {
            raise_priority(Urgency::First);
            runtime.block_on(plugin.run(nri::PACE));
        });
        start(thread, "the thread of NRI")?;
    }
    let (stopping, stopped) = oneshot::channel::<()>();
    let writing = writer.map(|writer| {
        runtime.spawn(writer.run(async {
            let _ = stopped.await;
            sleep(LAST_EVENTS).await;
        }))
    });
    let (node, reports) = (&args.node_name, reporter.clone());
    let dropped = Some(telemetry.dropped());
    let state = State::new(reports, readiness, asked.clone(), heartbeat, dropped, node);
    let state = access.into_iter().fold(state.local(args.port.is_local()), State::asking);
    let servers = Servers { listeners, state, for_pods };
    if let Some(reload) = access_reload {
        runtime.spawn(reload.watch(reporter.clone(), rules));
    }
    let reload = Reload { path, loaded, hangup, policies, log, guard, is_exposed: false };
    runtime.block_on(supervise(reload, reporter, servers, asked));
    // Meanwhile the core ends, and with it the queue; what is in it then is all.
    drop(stop_core);
    drop(stopping);
    if let Some(writing) = writing
        && let Ok(unwritten @ 1..) = runtime.block_on(writing)
    {
        tracing::warn!(
            events = unwritten,
            "Some Events were not written before the agent stopped; the API server is slow."
        );
    }
    let ended = runtime.block_on(ended).map_err(|_| AgentError::Core("it panicked".into()))?;
    ended.map_err(|error| AgentError::Core(error.to_string()))
}

fn log_attached(args: &RunArgs, source: &dyn Source, listen: &[SocketAddr]) {
    let (facts, traced) = (source.facts(), source.traced());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = args.node_name,
        ?listen,
        source = source.name(),
        mark = facts.map(|facts| tracing::field::debug(facts.mark)),
        means = source.means().as_str(),
        at_exit = facts.map(|_| traced.at_exit),
        "Attached."
    );
}

/// The ports, and what is answered there.
struct Servers {
    listeners: Listeners,
    state: State,
    for_pods: Option<own::PortForPods>,
}

/// Serves and reloads until a signal comes or the core ends.
async fn supervise(
    reload: Reload<'_>,
    reporter: Arc<Reporter>,
    servers: Servers,
    core: mpsc::Sender<StatesRequest>,
) {
    let Servers { listeners, state, for_pods } = servers;
    let (stop, stopped) = watch::channel(());
    let mut servers = JoinSet::new();
    if let Some(port) = for_pods {
        servers.spawn(port.serve(state.clone(), ended(stopped.clone())));
    }
    servers.spawn(serve::run(listeners, state, ended(stopped)));
    let reload = reload.watch(reporter);
    tokio::select! {
        () = terminated() => tracing::info!("Stopping."),
        () = reload => {}
        // The core has ended by itself, which `run` reports.
        () = core.closed() => {}
    }
    drop((stop, core));
    let drained = async { while servers.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("Connections were still open after {DRAIN:?}.");
    }
}

/// Waits until the sender is gone.
async fn ended(mut stopped: watch::Receiver<()>) {
    // An error is the signal itself.
    let _ = stopped.changed().await;
}

async fn terminated() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(error) => {
                tracing::error!(%error, "Cannot wait for signals.");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// Whether the runtime is to ask for values. Says once why not, if that is not by choice.
fn asks_runtime(nri: NriSwitch, root: Option<&CgroupRoot>) -> bool {
    if nri == NriSwitch::Off {
        return false;
    }
    let taken = CgroupRoot::takes_specs(root);
    taken.inspect_err(|reason| tracing::warn!(%reason, "NRI is not used.")).is_ok()
}

/// Enforcement needs cgroup v2; kills are observed without it too.
fn open_root(path: &Path) -> Option<CgroupRoot> {
    CgroupRoot::open(path)
        .inspect_err(|error| {
            tracing::error!(%error, "memory.oom.group is not enforced; kills are still observed.");
        })
        .ok()
}

fn options(args: &RunArgs, descriptors: i32) -> Options {
    Options {
        descriptors,
        dry_run: args.dry_run,
        restore_on_exit: args.restore_on_exit,
        systemd_transient: args.node.systemd_transient_dir.clone(),
        built_within: BUILT_WITHIN,
    }
}

fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn start<T>(result: io::Result<T>, what: &'static str) -> Result<T, AgentError> {
    result.map_err(|source| AgentError::Start { what, source })
}
