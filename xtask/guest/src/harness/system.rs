//! What the guest needs from the C library and no safe crate offers: ending one
//! thread, another user, shared and mapped memory, a network device, and fanotify.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use rustix::process::Pid;
use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    mem::{size_of, zeroed},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::ExitCode,
};

/// Ends the calling thread only, even if it is the thread-group leader; the
/// process lives on in its other threads.
pub fn exit_this_thread() -> ExitCode {
    // SAFETY: the call does not return, and nothing of this thread's stack is
    // borrowed by another thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    ExitCode::FAILURE
}

/// Starts a process that shares all memory with this one without being a thread of
/// it (`CLONE_VM` without `CLONE_THREAD`). It only waits.
pub fn start_sharing() {
    extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
        loop {
            // SAFETY: the call takes nothing and touches no memory.
            unsafe { libc::pause() };
        }
    }
    let stack = vec![0u128; 4096].leak().as_mut_ptr_range();
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the stack is the new process's alone and lives for ever; all that it
    // runs is a system call, so it disturbs nothing in the memory that it shares.
    let pid = unsafe { libc::clone(wait, stack.end.cast(), flags, std::ptr::null_mut()) };
    assert!(pid > 0, "{}", io::Error::last_os_error());
}

/// Runs something in a child without starting a program, which takes far longer.
pub fn forked(run: impl FnOnce()) -> Pid {
    try_forked(run).expect("a child")
}

/// The same, where the kernel may have no memory for it.
pub fn try_forked(run: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: this process has one thread, so its child may do all that it may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        run();
        exit_this_thread();
    }
    let child = u32::try_from(child).ok().and_then(|child| Pid::from_raw(child.cast_signed()));
    child.ok_or_else(io::Error::last_os_error)
}

/// The same, and waits for its end; whether that was SIGKILL.
pub fn child_is_killed(run: fn() -> !) -> bool {
    is_killed(forked(|| run()))
}

/// Waits for a child's end; whether that was SIGKILL.
pub fn is_killed(child: Pid) -> bool {
    let options = rustix::process::WaitOptions::empty();
    let (_, status) = rustix::process::waitpid(Some(child), options).expect("its end").unwrap();
    status.terminating_signal() == Some(libc::SIGKILL)
}

/// Takes a signal from now on, and does nothing about it.
pub fn handle_signal(signal: rustix::process::Signal) {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler touches nothing.
    let before = unsafe { libc::signal(signal.as_raw(), handler) };
    assert!(before != libc::SIG_ERR, "{}", io::Error::last_os_error());
}

/// Becomes another user for ever, with all threads.
pub fn become_user(uid: u32) {
    // SAFETY: no pointers are passed; a process may always give its rights away.
    assert_eq!(unsafe { libc::setuid(uid) }, 0);
}

/// Takes shared memory for the rest of the process's life.
pub fn take_shared(bytes: usize) {
    // SAFETY: a new mapping, which nothing else knows of.
    let memory = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED,
        )
    };
    // SAFETY: the mapping is so long, may be written, and is never undone.
    unsafe { memory.expect("shared memory").cast::<u8>().write_bytes(1, bytes) };
}

/// Takes memory straight from the kernel, each page of it, and frees it; nothing if the
/// kernel has none.
pub fn take_and_free(bytes: usize) {
    // SAFETY: a new mapping, which nothing else knows of.
    let memory = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::PRIVATE,
        )
    };
    let Ok(memory) = memory else { return };
    // SAFETY: the mapping is so long, and may be written.
    unsafe { memory.cast::<u8>().write_bytes(1, bytes) };
    // SAFETY: nothing refers to it any more.
    unsafe { rustix::mm::munmap(memory, bytes) }.expect("unmapped");
}

/// Takes a page of its own memory away from this process, for the rest of its life.
pub fn lose_page(address: usize, bytes: usize) {
    let page = std::ptr::without_provenance_mut(address);
    // SAFETY: the caller's process does not use what is there: its arguments, which are copied by then.
    unsafe { rustix::mm::mprotect(page, bytes, rustix::mm::MprotectFlags::empty()) }
        .expect("a page");
}

/// Maps the beginning of a file and reads it, for the rest of the process's life.
pub fn map_file(file: &File, bytes: usize) {
    let length = bytes.min(usize::try_from(file.metadata().expect("its size").len()).unwrap());
    // SAFETY: a new mapping of a file that does not change.
    let memory = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE,
            file,
            0,
        )
    };
    let start = memory.expect("a mapping").cast::<u8>();
    for at in (0..length).step_by(4096) {
        // SAFETY: inside of the mapping, which is never undone.
        std::hint::black_box(unsafe { start.wrapping_add(at).read_volatile() });
    }
}

/// Gives a network device an address and brings it up, if it is there.
pub fn interface_up(name: &str, address: [u8; 4]) -> bool {
    // SAFETY: a structure of plain numbers may be zero.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        // Signed on x86, unsigned on arm64.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: no pointers are passed.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    let mut set = |operation, change: &dyn Fn(&mut libc::ifreq)| {
        change(&mut request);
        // SAFETY: the request lives across the call, which reads and writes it.
        unsafe { libc::ioctl(socket, operation, &raw mut request) == 0 }
    };
    let ok = set(libc::SIOCSIFADDR, &|request| {
        // SAFETY: an address of plain numbers may be zero.
        let mut wanted: libc::sockaddr_in = unsafe { zeroed() };
        wanted.sin_family = libc::AF_INET.try_into().unwrap();
        wanted.sin_addr.s_addr = u32::from_ne_bytes(address);
        // SAFETY: both are socket addresses of the same size.
        request.ifr_ifru.ifru_addr =
            unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(wanted) };
    });
    // SIOCSIFADDR and SIOCSIFFLAGS are the same on every architecture; the flags
    // that are set are "up" and "running".
    let flags = (libc::IFF_UP | libc::IFF_RUNNING).try_into().unwrap();
    let up = set(libc::SIOCSIFFLAGS, &|request| request.ifr_ifru.ifru_flags = flags);
    // SAFETY: the descriptor is this function's own.
    unsafe { libc::close(socket) };
    ok && up
}

/// The next child is process 1 of a new pid namespace.
pub fn new_pid_namespace() {
    // SAFETY: a pid namespace changes nothing about the memory or the file
    // descriptors of this process.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }
        .expect("unshare");
}

/// What this process mounts is its own from now on; and with `cgroups`, its cgroup is the
/// root of the hierarchy that it sees.
pub fn new_mount_namespace(cgroups: bool) {
    use rustix::thread::UnshareFlags;
    let more = if cgroups { UnshareFlags::NEWCGROUP } else { UnshareFlags::empty() };
    // SAFETY: neither namespace changes anything about memory or file descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | more) }.expect("unshare");
}

/// This process, and those that it starts, have a network of their own from now on.
pub fn new_network() {
    // SAFETY: a network namespace changes nothing about the memory or the file descriptors of
    // this process.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .expect("unshare");
}

/// A mark for every write below a mount, by any process.
pub fn fanotify_modify(mount: &str) -> io::Result<File> {
    let class =
        libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_UNLIMITED_QUEUE;
    // SAFETY: no pointers are passed.
    let descriptor = unsafe { libc::fanotify_init(class, libc::O_RDONLY.cast_unsigned()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and has no other owner.
    let group = unsafe { File::from_raw_fd(descriptor) };
    let path = CString::new(mount)?;
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    // SAFETY: the path lives across the call.
    let marked = unsafe {
        libc::fanotify_mark(
            group.as_raw_fd(),
            flags,
            libc::FAN_MODIFY,
            libc::AT_FDCWD,
            path.as_ptr(),
        )
    };
    if marked == 0 { Ok(group) } else { Err(io::Error::last_os_error()) }
}

/// Who wrote, and the file it wrote to.
pub fn fanotify_events(group: &mut File) -> Vec<(u32, OwnedFd)> {
    let mut buffer = [0u8; 64 * 1024];
    let mut events = Vec::new();
    loop {
        let length = match group.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return events,
            Err(error) => panic!("the audit is blind: {error}"),
        };
        let each = size_of::<libc::fanotify_event_metadata>();
        for bytes in buffer[..length].chunks_exact(each) {
            // SAFETY: the bytes are a whole event, which is plain numbers.
            let event: libc::fanotify_event_metadata =
                unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            if event.fd >= 0 {
                // SAFETY: the kernel opened the descriptor for this reader.
                let file = unsafe { OwnedFd::from_raw_fd(event.fd) };
                events.push((event.pid.cast_unsigned(), file));
            }
        }
    }
}

/// From now on the kernel answers these calls with this error, in this process and whatever it
/// becomes, as sandboxes do.
pub fn refuse_calls(error: &str, names: &[&str]) {
    let error = match error {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        other => panic!("no error {other}"),
    };
    let number = |name: &&str| match *name {
        "clone3" => libc::SYS_clone3,
        "close_range" => libc::SYS_close_range,
        "faccessat2" => libc::SYS_faccessat2,
        "inotify_init1" => libc::SYS_inotify_init1,
        "openat2" => libc::SYS_openat2,
        "prctl" => libc::SYS_prctl,
        "renameat2" => libc::SYS_renameat2,
        "rseq" => libc::SYS_rseq,
        "sched_getattr" => libc::SYS_sched_getattr,
        "sched_setattr" => libc::SYS_sched_setattr,
        "statx" => libc::SYS_statx,
        other => panic!("no call {other}"),
    };
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt,
        jf,
        k,
    };
    // The number of the call comes first in `struct seccomp_data`.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in names.iter().map(number) {
        let number = number.try_into().unwrap();
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1));
        let answer = libc::SECCOMP_RET_ERRNO | error.cast_unsigned();
        filter.push(step(libc::BPF_RET | libc::BPF_K, answer, 0, 0));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    let program =
        libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true).expect("no new privileges");
    // SAFETY: the program and its filter live across the call, which copies them.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// A process that opens something in this directory waits, until what this returns is dropped.
pub fn hold_opens(directory: &str) -> OwnedFd {
    let class = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
    // SAFETY: no pointers are passed.
    let group = unsafe { libc::fanotify_init(class, libc::O_RDONLY.cast_unsigned()) };
    assert!(group >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor is new and has no other owner.
    let group = unsafe { OwnedFd::from_raw_fd(group) };
    let path = CString::new(directory).unwrap();
    let events = libc::FAN_OPEN_PERM | libc::FAN_EVENT_ON_CHILD;
    // SAFETY: the path lives across the call.
    let marked = unsafe {
        libc::fanotify_mark(
            group.as_raw_fd(),
            libc::FAN_MARK_ADD,
            events,
            libc::AT_FDCWD,
            path.as_ptr(),
        )
    };
    assert_eq!(marked, 0, "{}", io::Error::last_os_error());
    group
}
