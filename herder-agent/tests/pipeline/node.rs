//! A node with one pod, in a directory that looks like a cgroup mount, and the core on it.

use super::{
    files::{Root, make, write},
    protected::unable,
    records::{self, Kernel},
};
use bytemuck::bytes_of;
use herder_agent::inside::{
    core::{CgroupMount, Core, CoreConfig, Message, Notices},
    enforce::{Enforcer, Options, RestartWriter, restart_channel},
    kernel::{cgroupfs::dir::CgroupRoot, clock::Clock, source::Source},
    report::{KillRecord, Reporter, heartbeat::Heartbeat},
    runtime::{
        nri::Awaited,
        roles::{self, FoundRole, RoleLookups, RoleRequest},
    },
    state::StateFile,
};
use herder_agent_ebpf::RecordKind;
use herder_model::{
    cgroup::{CgroupId, CgroupPath, OOM_GROUP},
    clock::Monotonic,
    naming::{ContainerRole, Naming},
    owner::id::PodUid,
    pods::{Event, Pod, wire::PodObject},
    rules::{matching::Policy, parse::Config},
    saved::{SavedCgroup, SavedCgroups},
    shield::{SavedInit, SavedInits},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Uid of the pod `shop/web-0`.
const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";

/// When the agent begins.
pub(crate) const BEGIN: Monotonic = Monotonic(1_000_000_000_000);

/// The address of the pod.
pub(crate) const IP: &str = "10.244.1.7";

/// The rule that is in force at the start: it matches by the cgroup, whatever the names.
pub(crate) const GROUP: &str =
    "rules: [{ name: one, cgroups: [\"/kubepods/*/*\"], oomGroup: group }]";

/// Another rule, for the same container by its names.
pub(crate) const SINGLE: &str = "rules: [{ name: other, \
     pods: { namespaces: [shop], containers: [worker] }, oomGroup: single-process }]";

/// The node; what the kernel would do is done by calls, and the clock stands until it is moved.
pub(crate) struct Node {
    root: Root,
    pub(crate) clock: Clock,
    pub(crate) kernel: Kernel,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) core: Core,
    /// What the core asks of bundles; nothing reads them but a test.
    pub(crate) lookups: RoleLookups,
    /// The restarts that it orders; only a test writes them.
    pub(crate) restarts: RestartWriter,
    /// The container `worker`'s cgroup.
    pub(crate) worker: u64,
    /// The pod's.
    pub(crate) pod: u64,
}

/// In what an agent differs from one that has what it usually has.
#[derive(Default)]
struct Given {
    kubelet_uid: Option<u32>,
    dry_run: bool,
    no_mount: bool,
    state_file: Option<StateFile>,
    left: Option<SavedCgroup>,
    /// The container's init is exempt, and nothing can restore it.
    init: Option<SavedInit>,
}

impl Node {
    /// With the container's cgroup as it is before the agent begins, and its pod unknown.
    pub(crate) fn new(name: &str, rules: &str) -> Self {
        Self::given(name, rules, Given::default())
    }

    /// One whose agent writes nothing but its state.
    pub(crate) fn in_dry_run(name: &str, rules: &str, state_file: Option<StateFile>) -> Self {
        Self::given(name, rules, Given { dry_run: true, state_file, ..Given::default() })
    }

    /// One that leaves a state to the next agent.
    pub(crate) fn with_state(name: &str, rules: &str, file: StateFile) -> Self {
        Self::given(name, rules, Given { state_file: Some(file), ..Given::default() })
    }

    /// One after an earlier agent, which has left this of the container and its value at 1.
    pub(crate) fn after_an_agent(
        name: &str,
        rules: &str,
        left: SavedCgroup,
        state_file: Option<StateFile>,
    ) -> Self {
        Self::given(name, rules, Given { state_file, left: Some(left), ..Given::default() })
    }

    /// The same, and this agent writes nothing: in a dry run, or else without a cgroup v2 mount.
    pub(crate) fn idle(name: &str, left: SavedCgroup, file: StateFile, dry_run: bool) -> Self {
        let (left, state_file, no_mount) = (Some(left), Some(file), !dry_run);
        let given = Given { left, state_file, dry_run, no_mount, ..Given::default() };
        Self::given(name, "rules: []", given)
    }

    /// One with an exempt init, left by an earlier agent, that this one cannot restore.
    pub(crate) fn with_exempt_init(name: &str, rules: &str) -> Self {
        let path = CgroupPath::parse(container('a').as_bytes()).unwrap();
        let init = SavedInit { path, pid: 10, start: 1, score: 0 };
        Self::given(name, rules, Given { init: Some(init), ..Given::default() })
    }

    fn given(name: &str, rules: &str, given: Given) -> Self {
        let kernel = Kernel::default();
        let source = kernel.source();
        Self::of(name, rules, kernel, given, |_| source)
    }

    /// One that hears of kills and cgroups from this, which is made below the node's root before
    /// the agent begins.
    pub(crate) fn with_source(
        name: &str,
        rules: &str,
        source: impl FnOnce(&Path) -> Box<dyn Source>,
    ) -> Self {
        Self::of(name, rules, Kernel::default(), Given::default(), source)
    }

    /// One whose kernel's functions cannot be traced.
    pub(crate) fn untraced(name: &str, rules: &str) -> Self {
        let kernel = Kernel::default();
        let source = kernel.untraced();
        Self::of(name, rules, kernel, Given::default(), |_| source)
    }

    /// One whose kubelet has another user than the cgroups.
    pub(crate) fn with_kubelet_uid(name: &str, rules: &str, uid: u32) -> Self {
        Self::given(name, rules, Given { kubelet_uid: Some(uid), ..Given::default() })
    }

    fn of(
        name: &str,
        rules: &str,
        kernel: Kernel,
        given: Given,
        source: impl FnOnce(&Path) -> Box<dyn Source>,
    ) -> Self {
        let root =
            std::env::temp_dir().join(format!("herder-pipeline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("memory.events"), "oom_kill 0\n").unwrap();
        let worker = make(&root, &container('a'));
        let pod = make(&root, &pod());
        let clock = Clock::manual(BEGIN);
        let mut left = SavedCgroups::new();
        if let Some(of_worker) = given.left {
            write(&root, &container('a'), OOM_GROUP, "1");
            left.insert(CgroupId(worker), of_worker);
        }
        let reporter = Arc::new(Reporter::new(Duration::from_secs(900), clock.clone()));
        let options = Options {
            dry_run: given.dry_run,
            restore_on_exit: false,
            descriptors: i32::MAX,
            systemd_transient: root.join("transient"),
            built_within: Duration::ZERO,
        };
        let mount = CgroupRoot::unchecked(&root).unwrap();
        let hierarchy = CgroupMount {
            root: root.clone(),
            begins_at: mount.id(),
            // The user who runs the test has made the files.
            kubelet_uid: given.kubelet_uid.unwrap_or_else(|| fs::metadata(&root).unwrap().uid()),
            resync_every: Duration::from_secs(60),
        };
        let exempt = |init| SavedInits::from([(CgroupId(worker), init)]);
        let shield = given.init.map(|init| unable(&root, mount.id(), exempt(init), &reporter));
        let mount = Some(mount).filter(|_| !given.no_mount);
        let (role_requests, lookups, _) = roles::channel();
        let (restart_requests, restarts, _) = restart_channel();
        let core = Core::new(CoreConfig {
            clock: clock.clone(),
            source: source(&root),
            policy: policy(rules),
            enforcer: Enforcer::new(mount, options, clock.clone()).with_left(left),
            restarts: (restart_requests, Duration::from_secs(10)),
            reporter: reporter.clone(),
            hierarchy,
            naming: Naming::new(true),
            role_requests,
            notices: Notices::new(None),
            state_file: given.state_file,
            node_before: Some(0),
            heartbeat: Heartbeat::default(),
            awaited: Awaited::default(),
            shield,
        });
        let root = Root(root);
        let mut node = Node { root, clock, kernel, reporter, core, lookups, restarts, worker, pod };
        node.core.begin().unwrap();
        node.turn();
        node
    }

    /// Turns the core until there is nothing to do, and neither waits nor moves the clock.
    pub(crate) fn turn(&mut self) {
        for _ in 0..1000 {
            let due = self.core.next_deadline();
            self.core.turn(due, true);
            let is_due = self.core.next_deadline().is_some_and(|due| due <= self.clock.now());
            if !is_due && !self.kernel.has_unread() {
                // What was looked at may have had something to say.
                return self.core.turn(None, true);
            }
        }
        panic!("the core never comes to an end");
    }

    /// So much time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.turn();
    }

    /// The kernel makes a cgroup and reports it.
    pub(crate) fn make(&mut self, path: &str) -> u64 {
        let id = make(&self.root.0, path);
        self.kernel.cgroup(records::cgroup(RecordKind::CgroupMkdir, id, path, self.clock.now()));
        id
    }

    /// The kernel removes a cgroup and reports it.
    pub(crate) fn remove(&mut self, path: &str, id: u64) {
        fs::remove_dir_all(self.directory(path)).unwrap();
        self.kernel.cgroup(records::cgroup(RecordKind::CgroupRmdir, id, path, self.clock.now()));
    }

    /// A process was killed, a while before it is read.
    pub(crate) fn victim(&self, decision: u64, pid: u32, ns_pid: u32, cgroup: u64) {
        let victim = records::victim(decision, pid, ns_pid, cgroup, self.clock.now());
        self.kernel.kill(bytes_of(&victim));
    }

    /// A decision ends, in which a cgroup's limit was hit.
    pub(crate) fn decision(&self, decision: u64, domain: u64, group: u64, counts: (u32, u32)) {
        let end = records::decision(decision, domain, group, counts, self.clock.now());
        self.kernel.kill(bytes_of(&end));
    }

    /// One process of the container is killed for the container's limit.
    pub(crate) fn subprocess_dies(&self, decision: u64) {
        self.victim(decision, 100, 17, self.worker);
        self.decision(decision, self.worker, 0, (1, 1));
    }

    /// What the kernel has counted in the container.
    pub(crate) fn counts(&self, oom_kill: u64) {
        self.write("memory.events.local", &format!("oom 1\noom_kill {oom_kill}\n"));
    }

    /// A file of the container's cgroup changes.
    pub(crate) fn write(&self, file: &str, text: &str) {
        write(&self.root.0, &container('a'), file, text);
    }

    /// The API server sends the pod, whose container has this ID.
    pub(crate) fn pod_is(&mut self, letter: char) {
        self.push(Event::Applied(Box::new(pod_object(letter))));
    }

    pub(crate) fn pod_is_deleted(&mut self) {
        self.push(Event::Deleted(PodUid::parse(UID).unwrap()));
    }

    /// The API server lists all pods of the node.
    pub(crate) fn pods_are(&mut self, letter: char) {
        self.push(Event::ListStarted);
        self.pod_is(letter);
        self.push(Event::Listed);
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.core.take(Message::Pod(event));
        self.turn();
    }

    /// The pod asks for the mode of its containers, and what follows when they keep losing
    /// processes.
    pub(crate) fn pod_is_annotated(&mut self, mode: &str, escalate: &str) {
        let mut pod = pod_object('a');
        (pod.oom_group, pod.oom_escalate) = (Some(mode.into()), Some(escalate.into()));
        self.push(Event::Applied(Box::new(pod)));
    }

    /// What was read of a container's bundle comes back to the core.
    pub(crate) fn bundle_says(&mut self, request: RoleRequest, name: &str) {
        let role = ContainerRole::Container(name.into());
        self.core.take(Message::Roles(vec![FoundRole { request, role }]));
        self.turn();
    }

    /// It says that the container is the pod's sandbox.
    pub(crate) fn bundle_is_the_sandbox(&mut self, request: RoleRequest) {
        self.core.take(Message::Roles(vec![FoundRole { request, role: ContainerRole::Sandbox }]));
        self.turn();
    }

    pub(crate) fn rules_are(&mut self, rules: &str) {
        self.core.take(Message::Policy(policy(rules)));
        self.turn();
    }

    /// The value of the container's `memory.oom.group`.
    pub(crate) fn value(&self) -> String {
        self.value_of(&container('a'))
    }

    pub(crate) fn value_of(&self, path: &str) -> String {
        let file = self.directory(path).join(OOM_GROUP);
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    pub(crate) fn directory(&self, path: &str) -> PathBuf {
        self.root.0.join(path.trim_start_matches('/'))
    }

    /// The kills that were reported, the oldest first.
    pub(crate) fn kills(&self) -> Vec<Arc<KillRecord>> {
        let mut kills = self.reporter.kills(usize::MAX);
        kills.reverse();
        kills
    }

    /// The only kill that was reported.
    pub(crate) fn kill(&self) -> Arc<KillRecord> {
        let kills = self.kills();
        assert_eq!(kills.len(), 1, "{kills:?}");
        kills[0].clone()
    }

    /// The value of a series in the text that is served.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (text, _) = self.reporter.metrics().exposition();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

/// The pod's cgroup.
pub(crate) fn pod() -> String {
    format!("/kubepods/pod{UID}")
}

/// The cgroup of its container with this ID.
pub(crate) fn container(letter: char) -> String {
    format!("{}/{}", pod(), letter.to_string().repeat(64))
}

/// The pod as the API server has it.
pub(crate) fn pod_object(letter: char) -> Pod {
    let id = format!("containerd://{}", letter.to_string().repeat(64));
    let object: PodObject = serde_json::from_value(json!({
        "metadata": { "name": "web-0", "namespace": "shop", "uid": UID },
        "spec": { "containers": [{ "name": "worker" }, { "name": "logger" }] },
        "status": { "podIP": IP, "containerStatuses": [
            { "name": "worker", "containerID": id, "restartCount": 0 },
        ] },
    }))
    .unwrap();
    object.trim().unwrap()
}

fn policy(rules: &str) -> Arc<Policy> {
    Arc::new(Policy::new(Config::parse(rules, "rules").unwrap()))
}
