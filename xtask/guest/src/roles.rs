//! What runs inside of the containers that the tests make, and the shims that
//! start them: this same program, started again as `/init role NAME ARGUMENTS`.

use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::CapabilitySet,
};
use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode},
    thread::sleep,
    time::Duration,
};

/// This program, as the guest has it.
pub const SELF: &str = "/init";

/// A command that runs a role.
pub fn role(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(SELF);
    command.arg("role").arg(name).args(arguments);
    command
}

/// Runs a role; never returns for those that replace this program.
pub fn run(arguments: &[String]) -> ExitCode {
    let (name, rest) = arguments.split_first().expect("a role");
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match name.as_str() {
        "shim" => shim(&rest),
        "enter" => enter(&rest),
        // A child of a `tree` in a cgroup of its own: `job:/matched/c1/job=idle`.
        "job" => enter(&rest[0].split('=').collect::<Vec<_>>()),
        "confined" => confined(&rest),
        "in-node" => crate::nodes::in_node(&rest),
        "tree" => tree(&rest),
        "hog" => hog(rest[0].parse().expect("MiB")),
        "later" => later(rest[0].parse().expect("MiB")),
        "threads" => threads(rest[0].parse().expect("MiB")),
        "orphan-threads" => orphan_threads(rest[0].parse().expect("MiB")),
        "grower" => grower(rest[0].parse().expect("MiB")),
        "described" => described(&rest),
        "nasty" => nasty(rest[0].parse().expect("MiB")),
        "sharing" => sharing(rest[0].parse().expect("MiB")),
        "gives-up" => gives_up(rest[0]),
        "greedy-init" => greedy_init(rest[0].parse().expect("MiB")),
        "enter-v1" => enter_at(&format!("{}/cgroup.procs", rest[0]), &rest[1..]),
        "fight" => crate::enforcement::fight(&rest),
        "like-runc" => crate::enforcement::like_runc(&rest),
        "storm" => crate::faults::storm_init(&rest),
        "memory-of" => crate::bench::memory::of(rest[0].parse().expect("containers")),
        "victims" => crate::bench::shown::victims(&rest),
        "group" => crate::bench::seen::group(rest[0]),
        "paced" => crate::bench::soak::paced(rest[0]),
        "forks-again" => crate::shield::forks_again(),
        "idle" => idle(),
        "brief" => ExitCode::SUCCESS,
        "spin" => loop {
            std::hint::spin_loop();
        },
        "show" => crate::record::show(rest[0].parse().expect("seconds")),
        "record" => crate::record::run(rest[0]),
        "demo" => crate::demo::run(rest[0].parse().expect("seconds")),
        "look" => crate::runtime::starts::look(""),
        // Its bundle is there as long as it is.
        "look-and-stay" => {
            crate::runtime::starts::look(rest[0]);
            idle()
        }
        "read-value" => crate::enforcement::read_value(&rest),
        other => panic!("no role {other}"),
    }
}

/// Plays a container runtime's shim: stays outside of the container, makes a pid
/// namespace, and starts the container's init in it. Ends with it.
fn shim(rest: &[&str]) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("pdeathsig");
    crate::system::new_pid_namespace();
    let status = role("enter", rest).status().expect("start the init");
    ExitCode::from(u8::try_from(status.code().unwrap_or(99)).unwrap_or(98))
}

/// The container's init before its program: enters the cgroup, as `runc init` is
/// put into it, then becomes the program.
fn enter(rest: &[&str]) -> ExitCode {
    let (cgroup, program) = rest.split_first().expect("a cgroup");
    enter_at(&format!("/sys/fs/cgroup{cgroup}/cgroup.procs"), program)
}

fn enter_at(processes: &str, program: &[&str]) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("pdeathsig");
    fs::write(processes, "0").expect("enter the cgroup");
    let (name, arguments) = program.split_first().expect("a role");
    panic!("{}", role(name, arguments).exec());
}

/// Keeps only the named capabilities for ever, then becomes the program. As uid
/// 0 an `exec` would give back whatever is in the bounding set, so the others
/// leave that. `uid=1234` is another user, `refuse=EPERM:openat2,statx` a sandbox that
/// answers these calls so.
fn confined(rest: &[&str]) -> ExitCode {
    let end = rest.iter().position(|argument| *argument == "--").expect("--");
    let (settings, capabilities): (Vec<&str>, Vec<&str>) =
        rest[..end].iter().partition(|word| word.contains('='));
    let keep = capabilities.into_iter().fold(CapabilitySet::empty(), |keep, name| {
        keep | match name {
            "bpf" => CapabilitySet::BPF,
            "perfmon" => CapabilitySet::PERFMON,
            "sys_nice" => CapabilitySet::SYS_NICE,
            "sys_resource" => CapabilitySet::SYS_RESOURCE,
            other => panic!("no capability {other}"),
        }
    });
    for capability in CapabilitySet::all().difference(keep).iter() {
        // Kernels differ in which capabilities they have.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    for setting in settings {
        match setting.split_once('=').expect("a value") {
            ("uid", uid) => crate::system::become_user(uid.parse().expect("a uid")),
            ("refuse", calls) => {
                let (error, calls) = calls.split_once(':').expect("an error and calls");
                crate::system::refuse_calls(error, &calls.split(',').collect::<Vec<_>>());
            }
            (other, _) => panic!("no setting {other}"),
        }
    }
    panic!("{}", Command::new(rest[end + 1]).args(&rest[end + 2..]).exec());
}

/// A container's init with children: `hog:40`, `idle`, … Starts one again when it
/// dies of a signal if its word ends with `!`. Notes each death in a file.
fn tree(rest: &[&str]) -> ExitCode {
    let (notes, words) = rest.split_first().expect("a file for notes");
    let mut children: HashMap<i32, &str> = HashMap::new();
    let start = |word: &str| -> Child {
        let (name, argument) = word.trim_end_matches('!').split_once(':').unwrap_or((word, ""));
        role(name.trim_end_matches('!'), &[argument]).spawn().expect("start a child")
    };
    let mut deaths = 0;
    for word in words {
        children.insert(i32::try_from(start(word).id()).expect("a pid"), word);
    }
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let Some(word) = children.remove(&pid.as_raw_pid()) else { continue };
                deaths += 1;
                fs::write(notes, format!("{deaths} {:?}", status.terminating_signal()))
                    .expect("note");
                if word.ends_with('!') {
                    children.insert(i32::try_from(start(word).id()).expect("a pid"), word);
                }
            }
            _ => sleep(Duration::from_millis(20)),
        }
    }
}

/// Takes memory, at once, and keeps it.
fn hog(mebibytes: usize) -> ExitCode {
    let memory = take(mebibytes);
    idle_with(&memory)
}

/// Another user, with so many MiB each of its own, shared, and of a file; then more
/// of its own than the limit that it is given meanwhile.
fn described(rest: &[&str]) -> ExitCode {
    let sizes: Vec<usize> = rest.iter().map(|size| size.parse().expect("MiB")).collect();
    let file = fs::File::open(SELF).expect("this program");
    crate::system::become_user(1234);
    let _own = take(sizes[0]);
    crate::system::take_shared(sizes[1] << 20);
    crate::system::map_file(&file, sizes[2] << 20);
    let mut more = Vec::new();
    loop {
        sleep(Duration::from_millis(1000));
        more.push(take(1));
    }
}

/// The same, after what a test needs to look at the container before.
fn later(mebibytes: usize) -> ExitCode {
    sleep(Duration::from_secs(4));
    hog(mebibytes)
}

/// Shares its memory with another process, and then takes more.
fn sharing(mebibytes: usize) -> ExitCode {
    crate::system::start_sharing();
    later(mebibytes)
}

/// An init that ends some time after its child has died.
fn gives_up(mebibytes: &str) -> ExitCode {
    let mut child = role("later", &[mebibytes]).spawn().expect("start a child");
    child.wait().expect("the child");
    sleep(Duration::from_secs(2));
    ExitCode::FAILURE
}

/// An init that has a child, and is itself the biggest process.
fn greedy_init(mebibytes: usize) -> ExitCode {
    let mut child = role("idle", &[]).spawn().expect("start a child");
    let _killed = hog(mebibytes);
    child.wait().expect("the child");
    ExitCode::FAILURE
}

/// Grows under a name that a careless page would take for markup.
fn nasty(step: usize) -> ExitCode {
    fs::write("/proc/self/comm", "<img src=x>").expect("take a name");
    grower(step)
}

/// Grows for ever, some MiB at a time.
fn grower(step: usize) -> ExitCode {
    let mut memory = Vec::new();
    loop {
        memory.push(take(step));
        sleep(Duration::from_millis(20));
    }
}

/// Many threads that all take memory at once.
fn threads(mebibytes: usize) -> ExitCode {
    let threads: Vec<_> =
        (0..16).map(|_| std::thread::spawn(move || idle_with(&take(mebibytes / 16 + 1)))).collect();
    for thread in threads {
        let _ = thread.join();
    }
    ExitCode::SUCCESS
}

/// The thread-group leader exits, the process lives on in another thread, which
/// then takes memory: the kernel marks a thread that is not the leader.
fn orphan_threads(mebibytes: usize) -> ExitCode {
    for _ in 0..3 {
        std::thread::spawn(move || {
            sleep(Duration::from_millis(300));
            idle_with(&take(mebibytes / 3 + 1));
        });
    }
    crate::system::exit_this_thread()
}

fn take(mebibytes: usize) -> Vec<u8> {
    let mut memory = vec![0u8; mebibytes << 20];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    memory
}

fn idle() -> ExitCode {
    idle_with(&[])
}

fn idle_with(memory: &[u8]) -> ExitCode {
    loop {
        std::hint::black_box(memory);
        sleep(Duration::from_secs(3600));
    }
}
