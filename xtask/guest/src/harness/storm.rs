//! Many containers whose processes are killed at the same time, one after the other.

use super::{container::Container, wait::eventually};
use std::{fs, path::Path, process::ExitCode, thread, time::Duration};

/// A file at which the inits of a storm begin.
pub const GO: &str = "/tmp/go";

/// A storm in containers of these paths, with the files that their inits write. It begins
/// when all are steered, since no runtime leaves time here between the 1 and the program,
/// and a kill before the 0 would take the whole container, its init too.
pub fn storm_in(all: impl Iterator<Item = (String, String)>, kills: usize) -> Vec<Container> {
    let _ = fs::remove_file(GO);
    let start = |(path, notes): (String, String)| {
        // What an earlier storm has left would be taken for this one's.
        let _ = fs::remove_file(&notes);
        let threads = if path.ends_with('5') { "threads" } else { "one" };
        Container::start_program(&path, 6, &["storm", &notes, &kills.to_string(), threads])
    };
    let containers: Vec<_> = all.map(start).collect();
    eventually("all are steered", || {
        containers.iter().all(|container| container.cgroup.oom_group() == "0")
    });
    fs::write(GO, "").unwrap();
    containers
}

/// Takes memory until it is killed.
pub fn grow() -> ! {
    let mut memory = Vec::new();
    loop {
        memory.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&memory);
    }
}

/// The same with threads that all do.
fn grow_in_threads() -> ! {
    for _ in 0..4 {
        thread::spawn(|| grow());
    }
    grow()
}

/// The role of a storm: an init whose children grow until they are killed, one
/// after the other. All begin at once, or else the last could not even start.
pub fn storm_init(rest: &[&str]) -> ExitCode {
    while !Path::new(GO).exists() {
        thread::sleep(Duration::from_millis(100));
    }
    let (notes, kills) = (rest[0], rest[1].parse::<usize>().unwrap());
    let victim = if rest.get(2) == Some(&"threads") { grow_in_threads } else { grow };
    let mut killed = 0;
    while killed < kills {
        killed += usize::from(crate::harness::system::child_is_killed(victim));
        fs::write(notes, killed.to_string()).unwrap();
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
