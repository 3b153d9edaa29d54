//! Images made without a container engine: a layer with one static program, in an
//! archive that `ctr images import`, `docker load` and `podman load` take.

mod archive;
mod load;

use crate::{
    build::{self, Architecture},
    command::{output, say, workspace},
};
use anyhow::{Context, Result, bail, ensure};
use archive::{Contents, archive};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Largest archive of the agent, bytes.
const LARGEST: usize = 8 << 20;

#[derive(clap::Args)]
pub struct Args {
    /// Name of the image, without the tag.
    #[arg(long)]
    name: Option<String>,
    /// Tag of the image.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// What the program is built for.
    #[arg(long, value_enum, default_value = "amd64")]
    arch: Architecture,
    /// Where to write the archive; target/herder/NAME-TAG-ARCH.tar by default.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Load the archive with skopeo, containerd and, where that is installed, podman.
    #[arg(long)]
    check: bool,
}

impl Args {
    /// The image as it is by default, loaded as well.
    pub fn checked() -> Self {
        Args { check: true, ..Self::plain() }
    }

    /// The same, only written.
    pub fn plain() -> Self {
        let tag = env!("CARGO_PKG_VERSION").into();
        Args { name: None, tag, arch: Architecture::Amd64, output: None, check: false }
    }
}

/// The agent's image; how many bytes its archive has.
pub fn agent(args: &Args) -> Result<usize> {
    let program = build::for_image(AGENT.program, args.arch)?;
    let (archive, file) = write(args, &program, AGENT)?;
    ensure!(archive.len() <= LARGEST, "{} bytes are more than {LARGEST}", archive.len());
    let bytes = fs::read(&program)?;
    if let Some(source) = build::source() {
        let revision = source.revision.as_bytes();
        let told = bytes.windows(revision.len()).any(|window| window == revision);
        ensure!(told, "the agent does not know its revision {}", source.revision);
    }
    if args.check {
        load::check(&file, &program, AGENT.program, args.arch.name())?;
    }
    Ok(archive.len())
}

/// The guest, so that a runtime in it can make containers of it.
pub fn guest(program: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let contents = Contents {
        name: "localhost/herder-guest",
        tag: "tests",
        architecture: Architecture::Amd64.name(),
        title: "init",
        description: "The tests that run in virtual machines",
        program: &bytes,
        user: "0:0",
        arguments: &["role", "idle"],
        ports: &[],
        revision: None,
        created: None,
    };
    Ok(archive(&contents)?.1)
}

/// The test workload's image.
pub fn hog(args: &Args) -> Result<()> {
    let program = build::for_image(HOG.program, args.arch)?;
    let (_, file) = write(args, &program, HOG)?;
    if args.check { load::check(&file, &program, HOG.program, args.arch.name()) } else { Ok(()) }
}

/// What differs between the images.
#[derive(Clone, Copy)]
struct Kind {
    /// Name of the program, and of the image on a machine of one's own.
    program: &'static str,
    description: &'static str,
    user: &'static str,
    arguments: &'static [&'static str],
    ports: &'static [&'static str],
}

const AGENT: Kind = Kind {
    program: "herder-agent",
    description: "Reports every OOM kill on a node and enforces memory.oom.group by policy",
    user: "0:0",
    arguments: &["run"],
    ports: &["9469/tcp"],
};

const HOG: Kind = Kind {
    program: "herder-hog",
    description: "A workload whose children grow until one of them is OOM-killed",
    user: "65532:65532",
    arguments: &[],
    ports: &[],
};

/// Writes the archive; gives it and its file.
fn write(args: &Args, program: &Path, kind: Kind) -> Result<(Vec<u8>, PathBuf)> {
    let began = Instant::now();
    let Kind { program: name, description, user, arguments, ports } = kind;
    let image = args.name.clone().unwrap_or_else(|| format!("localhost/{name}"));
    if image.contains(['@', ' ']) || args.tag.contains([':', '/', ' ']) {
        bail!("{image}:{} is no name of an image", args.tag);
    }
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let source = build::source();
    let contents = Contents {
        name: &image,
        tag: &args.tag,
        architecture: args.arch.name(),
        title: name,
        description,
        program: &bytes,
        user,
        arguments,
        ports,
        revision: source.as_ref().map(|source| source.revision.as_str()),
        created: source.as_ref().map(|source| source.time.as_str()),
    };
    let (digest, archive) = archive(&contents)?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => output()?.join(format!("{name}-{}-{}.tar", args.tag, args.arch.name())),
    };
    fs::write(&file, &archive).with_context(|| format!("cannot write {}", file.display()))?;
    let shown = file.strip_prefix(workspace()).unwrap_or(&file).display();
    say(&format!(
        "{shown}: {image}:{}, {} bytes, manifest {digest} ({:.1} s)",
        args.tag,
        archive.len(),
        began.elapsed().as_secs_f64()
    ));
    Ok((archive, file))
}
