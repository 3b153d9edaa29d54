//! Herder's build, test and demo tasks: `cargo xtask TASK`. One file per task.

mod bench;
mod build;
mod build_ebpf;
mod chart;
mod check;
mod command;
mod dashboards;
mod debian;
mod demo;
mod deny;
mod dist;
#[cfg(test)]
mod docs;
mod helm;
mod image;
mod initramfs;
mod kernel;
#[cfg(test)]
mod manifests;
mod pack;
mod page;
mod release;
mod render;
mod rootfs;
mod test;
mod tools;
mod vm;
mod workflows;

use clap::{Parser, Subcommand};

/// Herder's build, test and demo tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF object into target/herder/herder-ebpf.o.
    BuildEbpf(build_ebpf::Args),
    /// Build the eBPF object and the static agent that embeds it.
    Build(build::Args),
    /// Run rustfmt, clippy, the checks of deploy/ and, where it is installed,
    /// cargo-deny.
    Check,
    /// Render deploy/ and check it against the schemas, and for what it grants.
    Manifests,
    /// Build the agent's image: an archive that containerd, Docker and podman load.
    Image(image::Args),
    /// Build the image of the test workload, whose children are OOM-killed.
    HogImage(image::Args),
    /// Pack the agent with its man pages and completions.
    Dist(dist::Args),
    /// Make all artefacts of a release: images, chart, packages, bills of materials, checksums.
    Release(release::Args),
    /// Fetch the kernels that the VM tests boot.
    Kernels(kernel::Args),
    /// Run the VM tests on chosen kernels.
    Vm(vm::Args),
    /// Run everything: lints, unit tests, and the VM tests on all kernels.
    Test(test::Args),
    /// Make the dashboard and the PrometheusRule from their sources, or test them.
    Dashboards(dashboards::Args),
    /// Open the page of a real agent in a real browser, and check it.
    Page(page::Args),
    /// Measure Herder beside other programs, and write docs/benchmarks.md.
    Bench(bench::Args),
    /// Watch Herder at work on a real kernel for a minute.
    Demo(demo::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::BuildEbpf(args) => build_ebpf::run(&args).map(drop),
        Task::Build(args) => build::run(&args),
        Task::Dist(args) => dist::run_task(&args),
        Task::Check => check::run(),
        Task::Manifests => check::manifests(),
        Task::Image(args) => image::agent(&args).map(drop),
        Task::HogImage(args) => image::hog(&args),
        Task::Release(args) => release::run(&args),
        Task::Kernels(args) => kernel::run(&args),
        Task::Vm(args) => vm::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Dashboards(args) => dashboards::run(&args),
        Task::Page(args) => page::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_task_can_be_asked_for() {
        Cli::command().debug_assert();
    }
}
