//! The kernels that the VM tests boot: Debian's cloud kernels, by package name.
//!
//! A series is asked for, never a version: old versions leave the archive.

use crate::{
    build::Architecture,
    command::{asked, cache, keep_of, kept_of, made, run as run_command, say},
    debian::Suite,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A kernel to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Series {
    /// Debian 11 as released: `mark_victim` carries a thread id only.
    #[value(name = "5.10-pid")]
    V5_10Pid,
    /// Debian 11 with security updates: the task pointer, back-ported.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13, as back-ported to 12.
    #[value(name = "6.12")]
    V6_12,
    /// The same with pages of 16 KiB, which arm64 has; for `--arch arm64` only. Debian has no
    /// kernel with pages of 64 KiB.
    #[value(name = "6.12-16k")]
    V6_12Pages16,
    /// Debian's development suite.
    #[value(name = "7.2")]
    V7_2,
}

impl Series {
    /// All that both architectures have, oldest first.
    pub const ALL: [Series; 5] =
        [Series::V5_10Pid, Series::V5_10, Series::V6_1, Series::V6_12, Series::V7_2];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Series::V5_10Pid => "5.10-pid",
            Series::V5_10 => "5.10",
            Series::V6_1 => "6.1",
            Series::V6_12 => "6.12",
            Series::V6_12Pages16 => "6.12-16k",
            Series::V7_2 => "7.2",
        }
    }

    /// The suite, and how the names of the kernel's and the modules' packages
    /// begin. Since 7.2 the kernel is in a package of its own.
    fn source(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Series::V5_10Pid => ("bullseye", &["linux-image-5.10."]),
            Series::V5_10 => ("bullseye-security", &["linux-image-5.10."]),
            Series::V6_1 => ("bookworm-security", &["linux-image-6.1."]),
            Series::V6_12 | Series::V6_12Pages16 => ("bookworm-security", &["linux-image-6.12."]),
            Series::V7_2 => ("sid", &["linux-binary-unsigned-7.", "linux-modules-7."]),
        }
    }

    /// How the names of its packages end: small kernels for clouds, where there are some.
    fn flavour(self, architecture: Architecture) -> Result<String> {
        match (self, architecture) {
            (Series::V6_12Pages16, Architecture::Arm64) => Ok("-arm64-16k".into()),
            (Series::V6_12Pages16, _) => bail!("only arm64 has pages of 16 KiB: add --arch arm64"),
            _ => Ok(format!("-cloud-{}", architecture.name())),
        }
    }
}

/// Modules of the network card that the demo's port is forwarded by, and of the pairs of devices
/// that connect pods' networks.
const MODULES: [&str; 9] = [
    "failover",
    "net_failover",
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_net",
    "veth",
];

#[derive(clap::Args)]
pub struct Args {
    /// Which ones; all by default.
    #[arg(value_enum)]
    series: Vec<Series>,
    /// What they are for.
    #[arg(long, value_enum, default_value = "amd64")]
    arch: Architecture,
    /// Look for newer versions of kernels that are there already.
    #[arg(long)]
    refresh: bool,
}

/// An unpacked kernel.
#[derive(Clone)]
pub struct Kernel {
    pub series: Series,
    pub architecture: Architecture,
    pub image: PathBuf,
    pub modules: Vec<PathBuf>,
    /// Release, as `uname -r` gives it.
    pub release: String,
}

impl Kernel {
    /// What it is called to people.
    pub fn name(&self) -> String {
        named(self.series, self.architecture)
    }
}

fn named(series: Series, architecture: Architecture) -> String {
    match architecture {
        Architecture::Amd64 => series.name().to_owned(),
        other => format!("{}-{}", series.name(), other.name()),
    }
}

pub fn run(args: &Args) -> Result<()> {
    let series = if args.series.is_empty() { &Series::ALL[..] } else { &args.series };
    for series in series {
        let directory = directory(*series, args.arch)?;
        if args.refresh && directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        let kernel = get_for(*series, args.arch)?;
        say(&format!("{}: {} in {}", kernel.name(), kernel.release, directory.display()));
    }
    Ok(())
}

/// The kernel from the cache, or from Debian.
pub fn get(series: Series) -> Result<Kernel> {
    get_for(series, Architecture::Amd64)
}

/// The same for an architecture.
pub fn get_for(series: Series, architecture: Architecture) -> Result<Kernel> {
    let directory = directory(series, architecture)?;
    if !kept_of(&directory, &MODULES.join(" ")) {
        fetch(series, architecture, &directory)
            .with_context(|| format!("cannot get the kernel {}", named(series, architecture)))?;
    }
    let mut modules = Vec::new();
    let mut image = None;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            image = Some((path.clone(), release.to_owned()));
        } else if name.ends_with(".ko") {
            modules.push(path);
        }
    }
    modules.sort();
    let (image, release) =
        image.with_context(|| format!("no vmlinuz in {}; try --refresh", directory.display()))?;
    Ok(Kernel { series, architecture, image, modules, release })
}

fn directory(series: Series, architecture: Architecture) -> Result<PathBuf> {
    Ok(made(cache()?.join("kernels"))?.join(named(series, architecture)))
}

fn fetch(series: Series, architecture: Architecture, directory: &Path) -> Result<()> {
    let (suite, packages) = series.source();
    let flavour = series.flavour(architecture)?;
    let suite = Suite::open_for(suite, architecture.name(), &made(cache()?.join("apt"))?)?;
    // Unpacked beside its place and then renamed, so that an interrupted
    // download leaves nothing that looks complete.
    let unpacked = directory.with_file_name(format!("{}.part", named(series, architecture)));
    let _ = fs::remove_dir_all(&unpacked);
    made(unpacked.join("root"))?;
    for begins in packages {
        let package = suite.newest(begins, &flavour)?;
        let archive = suite.download(&package, &unpacked)?;
        let mut unpack = Command::new("dpkg-deb");
        run_command(unpack.arg("-x").arg(&archive).arg(unpacked.join("root")))?;
        fs::remove_file(archive)?;
    }
    let found = find(&unpacked.join("root"))?;
    let images: Vec<_> = found.iter().filter(|path| begins(path, "vmlinuz")).collect();
    let [image] = images[..] else { bail!("{} kernels in {packages:?}", images.len()) };
    fs::rename(image, unpacked.join(format!("vmlinuz-{}", release(image))))?;
    for (number, module) in MODULES.iter().enumerate() {
        if let Some(path) = found.iter().find(|path| begins(path, &format!("{module}.ko"))) {
            decompress(path, &unpacked.join(format!("{number}-{module}.ko")))?;
        }
    }
    fs::remove_dir_all(unpacked.join("root"))?;
    keep_of(directory, &unpacked, &MODULES.join(" "))
}

/// The release of an image: in its name in /boot, or since 7.2 that of the
/// directory of modules which it lies in.
fn release(image: &Path) -> String {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let name = text(image.file_name());
    match name.strip_prefix("vmlinuz-") {
        Some(release) => release.to_owned(),
        None => text(image.parent().and_then(Path::file_name)),
    }
}

fn begins(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let list = asked(Command::new("find").arg(root).args(["-type", "f"]));
    Ok(list.context("find failed")?.lines().map(PathBuf::from).collect())
}

fn decompress(module: &Path, to: &Path) -> Result<()> {
    let program = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => {
            return fs::copy(module, to).map(drop).context("cannot copy a module");
        }
    };
    crate::debian::need(program, if program == "xz" { "xz-utils" } else { "zstd" })?;
    let output = Command::new(program).arg("-dc").arg(module).output()?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", module.display());
    }
    fs::write(to, output.stdout).with_context(|| format!("cannot write {}", to.display()))
}
