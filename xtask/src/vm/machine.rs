//! The machine that QEMU emulates, for each architecture.

use super::Vm;
use crate::{build::Architecture, command::tied, debian};
use anyhow::Result;
use std::{
    path::Path,
    process::{Command, Stdio},
};

struct Board {
    program: &'static str,
    package: &'static str,
    machine: &'static [&'static str],
    processor: &'static str,
    /// Of the kernel: its console, and what this machine makes necessary.
    parameters: &'static str,
}

fn board(architecture: Architecture) -> Board {
    match architecture {
        Architecture::Amd64 => Board {
            program: "qemu-system-x86_64",
            package: "qemu-system-x86",
            machine: &[],
            processor: "max",
            // A clock that the host's load makes look unstable would be given up, with a delay
            // that has nothing to do with the tests.
            parameters: "console=ttyS0 tsc=nowatchdog",
        },
        Architecture::Arm64 => Board {
            program: "qemu-system-aarch64",
            package: "qemu-system-arm",
            machine: &["-machine", "virt"],
            // With 16 KiB pages too. The architecture's own pointer authentication takes a
            // third of the emulator's time.
            processor: "max,pauth-impdef=on",
            parameters: "console=ttyAMA0",
        },
    }
}

/// Makes sure that the emulator is there.
pub fn need(architecture: Architecture) -> Result<()> {
    let board = board(architecture);
    debian::need("setpriv", "util-linux")?;
    debian::need(board.program, board.package)
}

impl Vm<'_> {
    /// The command that boots it.
    pub(super) fn qemu(&self, initramfs: &Path) -> Command {
        let parameters = self.parameters.iter();
        let mut parameters: String =
            parameters.map(|(name, value)| format!(" herder.{name}={value}")).collect();
        // Nothing of what is tested there takes it, and no boot is needed for that alone.
        if self.parameters.contains(&("mode", "lockdown".into())) {
            parameters.push_str(" ipv6.disable=1");
        }
        let board = board(self.kernel.architecture);
        // Before other work of this machine, where that is allowed: what is waited
        // for here is time that the guest's clock counts.
        let mut qemu = tied("nice");
        qemu.args(["-n", "-10", board.program]).args(board.machine);
        if self.counting {
            qemu.args(["-accel", "tcg,thread=single", "-smp", "1"]);
            qemu.args(["-icount", "shift=0,sleep=off"]);
        } else {
            qemu.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
        }
        qemu.args(["-cpu", board.processor, "-no-reboot"])
            .args([
                "-nodefaults",
                "-nographic",
                "-serial",
                "stdio",
                "-m",
                &format!("{}M", self.memory),
            ])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            .args([
                "-append",
                &format!("{} panic=-1 oops=panic quiet{parameters}", board.parameters),
            ]);
        if let Some(port) = self.forward {
            let user = format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:9469");
            qemu.args(["-netdev", &user, "-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        qemu
    }
}
