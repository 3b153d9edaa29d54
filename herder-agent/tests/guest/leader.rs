//! The two things the guest needs from the C library that no safe crate offers:
//! ending one thread, and bringing a network device up.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::{mem::zeroed, process::ExitCode};

/// Ends the calling thread only, even if it is the thread-group leader; the
/// process lives on in its other threads.
pub fn exit_this_thread() -> ExitCode {
    // SAFETY: the call does not return, and nothing of this thread's stack is
    // borrowed by another thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    ExitCode::FAILURE
}

/// Gives a network device an address and brings it up, if it is there.
pub fn interface_up(name: &str, address: [u8; 4]) -> bool {
    // SAFETY: a structure of plain numbers may be zero.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
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
        request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(wanted) };
    });
    // SIOCSIFADDR and SIOCSIFFLAGS are the same on every architecture; the flags
    // that are set are "up" and "running".
    let flags = (libc::IFF_UP | libc::IFF_RUNNING).try_into().unwrap();
    let up = set(libc::SIOCSIFFLAGS, &|request| request.ifr_ifru.ifru_flags = flags);
    // SAFETY: the descriptor is this function's own.
    unsafe { libc::close(socket) };
    ok && up
}
