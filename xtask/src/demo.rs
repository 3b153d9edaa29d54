//! Herder at work on a real kernel, for people to watch.

use crate::{
    build::{self, Built},
    command::say,
    debian,
    kernel::{self, Kernel, Series},
    vm::Vm,
};
use anyhow::{Context, Result, bail};
use std::{net::TcpListener, time::Duration};

/// The agent's port.
const PORT: u16 = 9469;

#[derive(clap::Args)]
pub struct Args {
    /// How long to watch, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// The kernel.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
}

pub fn run(args: &Args) -> Result<()> {
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    let kernel = kernel::get(args.kernel)?;
    let built = build::for_vm(build::Architecture::Amd64, &build::Args::default())?;
    watch(&kernel, &built, args.seconds, &mut |line| println!("{line}"))
}

/// Shows the demo, and fails if it did not go as it should.
pub fn watch(
    kernel: &Kernel,
    built: &Built,
    seconds: u32,
    show: &mut dyn FnMut(&str),
) -> Result<()> {
    let port = free_port()?;
    say(&format!(
        "Booting Linux {}. While it runs: http://127.0.0.1:{port}/metrics",
        kernel.release
    ));
    let vm = Vm {
        kernel,
        built,
        root: None,
        images: Vec::new(),
        parameters: vec![("mode", "demo".into()), ("seconds", seconds.to_string())],
        memory: 1024,
        timeout: Duration::from_secs(u64::from(seconds) + 120),
        forward: Some(port),
        counting: false,
        verbose: false,
    };
    let verdict = vm.boot(show)?;
    if verdict.failed > 0 || verdict.passed == 0 {
        bail!("the demo did not show what it should");
    }
    Ok(())
}

/// The agent's own port, or another one if that is taken.
pub fn free_port() -> Result<u16> {
    let taken = || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    match TcpListener::bind(("127.0.0.1", PORT)) {
        Ok(_) => Ok(PORT),
        Err(_) => Ok(taken().context("no port of 127.0.0.1 is free")?.port()),
    }
}
