//! Records what real agents expose on a real kernel, for the proof.

use super::source::directory;
use crate::{
    build,
    command::{asked, made, say},
    debian,
    kernel::{self, Series},
    vm::Vm,
};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

/// Between two expositions, as the guest takes them.
pub const BETWEEN: Duration = Duration::from_secs(6);

/// Where the expositions are kept.
pub fn recorded() -> PathBuf {
    directory().join("tests/recorded")
}

/// The expositions of each node, in the order in which they were taken.
pub fn nodes() -> Result<BTreeMap<String, Vec<String>>> {
    let mut nodes = BTreeMap::<String, Vec<String>>::new();
    let mut paths: Vec<_> = fs::read_dir(recorded())
        .context("nothing is recorded: run `cargo xtask dashboards --record`")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((node, _)) = name.rsplit_once("-take-") {
            nodes.entry(node.to_owned()).or_default().push(fs::read_to_string(&path)?);
        }
    }
    Ok(nodes)
}

pub fn run() -> Result<()> {
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    let kernel = kernel::get(Series::V6_12)?;
    let built = build::for_vm(build::Architecture::Amd64, &build::Args::default())?;
    let vm = Vm {
        kernel: &kernel,
        built: &built,
        root: None,
        images: Vec::new(),
        parameters: vec![("mode", "record".into())],
        memory: 1024,
        timeout: Duration::from_secs(400),
        forward: None,
        counting: false,
        verbose: false,
    };
    let day = asked(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    let mut takes = Vec::<(String, String)>::new();
    let verdict = vm.boot(&mut |line| match (line.strip_prefix("take "), line.strip_prefix("| ")) {
        (Some(take), _) => {
            say(take);
            let mut words = take.split(' ');
            let (node, number) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let name = format!("{node}-take-{number}.prom");
            let head = format!(
                "# A real agent in a VM, Linux {}, {}, {take}: cargo xtask dashboards --record\n",
                kernel.release,
                day.trim()
            );
            takes.push((name, head));
        }
        (None, Some(text)) => {
            if let Some((_, exposition)) = takes.last_mut() {
                exposition.push_str(text);
                exposition.push('\n');
            }
        }
        _ => println!("{line}"),
    })?;
    if verdict.failed > 0 || takes.is_empty() {
        bail!("the guest recorded nothing");
    }
    let directory = made(recorded())?;
    for entry in fs::read_dir(&directory)? {
        fs::remove_file(entry?.path())?;
    }
    for (name, exposition) in &takes {
        fs::write(directory.join(name), exposition)?;
    }
    say(&format!("{} expositions in {}", takes.len(), directory.display()));
    Ok(())
}
