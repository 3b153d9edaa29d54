//! Makes the machine one that runtimes and systemd can work on.

use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use std::{fs, os::unix::process::CommandExt, process::Command};

/// Where Debian has programs.
pub const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin";

/// `pivot_root` refuses the first root file system of a machine, since that is
/// mounted on nothing. The same files bound to a directory of themselves are a
/// mount like any other; that becomes the root. It is moved over the first one,
/// where a process that enters a container's mount namespace looks for the root
/// (`mntns_install()`, fs/namespace.c), as `exec` in a container does.
pub fn root_that_can_be_pivoted() {
    fs::create_dir("/root/bound").unwrap();
    mount_bind("/", "/root/bound").unwrap();
    rustix::process::chdir("/root/bound").unwrap();
    mount_move(".", "/").unwrap();
    rustix::process::chroot(".").unwrap();
    rustix::process::chdir("/").unwrap();
    mount("proc", "/proc", "proc", MountFlags::empty(), c"").unwrap();
}

/// Runs the tests as a service, all of which is set up as a host would be.
const UNIT: &str = "\
[Unit]
Description=Herder's guest tests
Wants=dbus.socket
After=basic.target dbus.socket

[Service]
Environment=PATH=/usr/local/bin:/usr/sbin:/usr/bin
ExecStart=/init below-systemd
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
";

/// What maintainer scripts would have made.
const FILES: &[(&str, &str)] = &[
    ("/etc/systemd/system/herder-guest.service", UNIT),
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/nonexistent:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\nmessagebus:x:100:\n"),
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/etc/hostname", "node-1\n"),
    // Nothing is newer than what systemd last looked at, so it rebuilds no caches.
    ("/etc/.updated", ""),
    ("/var/.updated", ""),
];

/// Never returns: process 1 becomes systemd.
pub fn become_systemd() -> ! {
    for (path, content) in FILES {
        fs::write(path, content).unwrap();
    }
    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).unwrap();
    let mut systemd = Command::new("/usr/lib/systemd/systemd");
    systemd.arg("--unit=herder-guest.service").env("PATH", PATH);
    panic!("{}", systemd.exec());
}
