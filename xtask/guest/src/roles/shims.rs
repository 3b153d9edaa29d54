//! What a runtime starts a container by: shim, init before its program, init with children; and
//! what starts the agent with few rights.

use crate::harness::role::role;
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

/// Plays a container runtime's shim: stays outside of the container, makes a pid
/// namespace, and starts the container's init in it. Ends with it.
pub fn shim(rest: &[&str]) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("pdeathsig");
    crate::harness::system::new_pid_namespace();
    let status = role("enter", rest).status().expect("start the init");
    ExitCode::from(u8::try_from(status.code().unwrap_or(99)).unwrap_or(98))
}

/// The container's init before its program: enters the cgroup, as `runc init` is
/// put into it, then becomes the program.
pub fn enter(rest: &[&str]) -> ExitCode {
    let (cgroup, program) = rest.split_first().expect("a cgroup");
    enter_at(&format!("/sys/fs/cgroup{cgroup}/cgroup.procs"), program)
}

pub fn enter_at(processes: &str, program: &[&str]) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("pdeathsig");
    fs::write(processes, "0").expect("enter the cgroup");
    let (name, arguments) = program.split_first().expect("a role");
    panic!("{}", role(name, arguments).exec());
}

/// Becomes a program of the file system, after `NAME=VALUE` for its environment. What it prints goes
/// to a file.
pub fn program(rest: &[&str]) -> ExitCode {
    let begins = rest.iter().position(|word| !word.contains('=')).expect("a program");
    let output = fs::File::create("/tmp/output").expect("a file for what it prints");
    let mut command = Command::new(rest[begins]);
    command
        .args(&rest[begins + 1..])
        .envs(rest[..begins].iter().filter_map(|it| it.split_once('=')));
    command.stdout(output.try_clone().expect("the file again")).stderr(output);
    panic!("{}", command.exec());
}

/// Keeps only the named capabilities for ever, then becomes the program. As uid
/// 0 an `exec` would grant again whatever is in the bounding set, so the others
/// leave that. `uid=1234` is another user, `refuse=EPERM:openat2,statx` a sandbox that
/// answers these calls so.
pub fn confined(rest: &[&str]) -> ExitCode {
    let end = rest.iter().position(|argument| *argument == "--").expect("--");
    let (settings, capabilities): (Vec<&str>, Vec<&str>) =
        rest[..end].iter().partition(|word| word.contains('='));
    let keep = capabilities.into_iter().fold(CapabilitySet::empty(), |keep, name| {
        keep | match name {
            "bpf" => CapabilitySet::BPF,
            "perfmon" => CapabilitySet::PERFMON,
            "dac_override" => CapabilitySet::DAC_OVERRIDE,
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
            ("uid", uid) => crate::harness::system::become_user(uid.parse().expect("a uid")),
            ("refuse", calls) => {
                let (error, calls) = calls.split_once(':').expect("an error and calls");
                crate::harness::system::refuse_calls(error, &calls.split(',').collect::<Vec<_>>());
            }
            (other, _) => panic!("no setting {other}"),
        }
    }
    panic!("{}", Command::new(rest[end + 1]).args(&rest[end + 2..]).exec());
}

/// A container's init with children: `hog:40`, `idle`, … Starts one again when it
/// dies of a signal if its word ends with `!`. Notes each death in a file.
pub fn tree(rest: &[&str]) -> ExitCode {
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
