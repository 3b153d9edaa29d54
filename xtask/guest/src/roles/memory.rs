//! Programs of containers that take memory, each in its way.

use crate::harness::role::{SELF, role};
use std::{fs, io::Write, process::ExitCode, thread::sleep, time::Duration};

/// Takes memory, at once, and keeps it.
pub fn hog(mebibytes: usize) -> ExitCode {
    let memory = take(mebibytes);
    idle_with(&memory)
}

/// Another user, with so many MiB each of its own, shared, and of a file; then more
/// of its own than the limit that it is given meanwhile.
pub fn described(rest: &[&str]) -> ExitCode {
    let sizes: Vec<usize> = rest.iter().map(|size| size.parse().expect("MiB")).collect();
    let file = fs::File::open(SELF).expect("this program");
    crate::harness::system::become_user(1234);
    let _own = take(sizes[0]);
    crate::harness::system::take_shared(sizes[1] << 20);
    crate::harness::system::map_file(&file, sizes[2] << 20);
    let mut more = Vec::new();
    loop {
        sleep(Duration::from_millis(1000));
        more.push(take(1));
    }
}

/// The same, after what a test needs to look at the container before.
pub fn later(mebibytes: usize) -> ExitCode {
    sleep(Duration::from_secs(4));
    hog(mebibytes)
}

/// Writes a file in a tmpfs, whose memory stays when the process goes.
pub fn writes(mebibytes: usize) -> ExitCode {
    let mut file = fs::File::create("/tmp/shm/file").expect("a file");
    for _ in 0..mebibytes {
        file.write_all(&[1; 1 << 20]).expect("write the file");
    }
    idle()
}

/// Shares its memory with another process, and then takes more.
pub fn sharing(mebibytes: usize) -> ExitCode {
    crate::harness::system::start_sharing();
    later(mebibytes)
}

/// An init that ends some time after its child has died.
pub fn gives_up(mebibytes: &str) -> ExitCode {
    let mut child = role("later", &[mebibytes]).spawn().expect("start a child");
    child.wait().expect("the child");
    sleep(Duration::from_secs(2));
    ExitCode::FAILURE
}

/// An init that has a child, and is itself the biggest process.
pub fn greedy_init(mebibytes: usize) -> ExitCode {
    let mut child = role("idle", &[]).spawn().expect("start a child");
    let _killed = hog(mebibytes);
    child.wait().expect("the child");
    ExitCode::FAILURE
}

/// Grows under a name that a careless page would take for markup.
pub fn nasty(step: usize) -> ExitCode {
    fs::write("/proc/self/comm", "<img src=x>").expect("take a name");
    grower(step)
}

/// Grows for ever, some MiB at a time.
pub fn grower(step: usize) -> ExitCode {
    let mut memory = Vec::new();
    loop {
        memory.push(take(step));
        sleep(Duration::from_millis(20));
    }
}

/// Many threads that all take memory at once.
pub fn threads(mebibytes: usize) -> ExitCode {
    let threads: Vec<_> =
        (0..16).map(|_| std::thread::spawn(move || idle_with(&take(mebibytes / 16 + 1)))).collect();
    for thread in threads {
        let _ = thread.join();
    }
    ExitCode::SUCCESS
}

/// The thread-group leader exits, the process lives on in another thread, which
/// then takes memory: the kernel marks a thread that is not the leader.
pub fn orphan_threads(mebibytes: usize) -> ExitCode {
    for _ in 0..3 {
        std::thread::spawn(move || {
            sleep(Duration::from_millis(300));
            idle_with(&take(mebibytes / 3 + 1));
        });
    }
    crate::harness::system::exit_this_thread()
}

fn take(mebibytes: usize) -> Vec<u8> {
    let mut memory = vec![0u8; mebibytes << 20];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    memory
}

pub fn idle() -> ExitCode {
    idle_with(&[])
}

fn idle_with(memory: &[u8]) -> ExitCode {
    loop {
        std::hint::black_box(memory);
        sleep(Duration::from_secs(3600));
    }
}
