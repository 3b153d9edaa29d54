//! Images made without a container engine: a layer with one static program, in an
//! archive that `ctr images import`, `docker load` and `podman load` take.

mod archive;
mod load;
pub mod registry;

use crate::{
    build::{self, Architecture, Platforms, Source},
    command::{output, say, workspace},
};
use anyhow::{Context, Result, bail, ensure};
use archive::{Contents, archive, index};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Largest image of the agent, bytes.
const LARGEST: usize = 8 << 20;

#[derive(clap::Args)]
pub struct Args {
    /// Name of the image, without the tag.
    #[arg(long)]
    name: Option<String>,
    /// Tag of the image.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// What the program is built for; `all` gives one index (a multi-platform image).
    #[arg(long, value_enum, default_value = "amd64")]
    arch: Platforms,
    /// Where to write the archive; target/herder/NAME-TAG-ARCH.tar by default, and
    /// NAME-TAG.tar with `all`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Load the archive with skopeo, containerd and, where that is installed, podman; an
    /// index is pushed to a registry on this machine and pulled for each architecture.
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
        Args { name: None, tag, arch: Platforms::Amd64, output: None, check: false }
    }
}

/// The agent's image; how many bytes its archive has.
pub fn agent(args: &Args) -> Result<usize> {
    task(args, &AGENT)
}

/// The test workload's image.
pub fn hog(args: &Args) -> Result<()> {
    task(args, &HOG).map(drop)
}

fn task(args: &Args, kind: &Kind) -> Result<usize> {
    let built = args.arch.architectures().iter();
    let built = built.map(|arch| Program::read(*arch, &build::for_image(kind.program, *arch)?));
    let programs = built.collect::<Result<Vec<_>>>()?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => output()?.join(kind.file(&args.tag, &programs)),
    };
    let name = args.name.clone().unwrap_or_else(|| format!("localhost/{}", kind.program));
    let digest = write(kind, &name, &args.tag, &programs, &file)?;
    match &programs[..] {
        _ if !args.check => {}
        [one] => load::check(&file, &one.bytes, kind.program, one.architecture.name())?,
        all => registry::check(&file, kind.program, &args.tag, &digest, all)?,
    }
    Ok(usize::try_from(fs::metadata(&file)?.len())?)
}

/// What is in an image: one static program.
pub struct Program {
    pub architecture: Architecture,
    pub bytes: Vec<u8>,
}

impl Program {
    pub fn read(architecture: Architecture, file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Program { architecture, bytes })
    }
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

/// The agent's, as [`write`] names it on a machine of one's own.
pub fn of_agent(program: &Path) -> Result<Vec<u8>> {
    let program = Program::read(Architecture::Amd64, program)?;
    let name = format!("localhost/{}", AGENT.program);
    let source = build::source();
    let contents = AGENT.contents(&name, env!("CARGO_PKG_VERSION"), &program, source.as_ref());
    Ok(archive(&contents)?.1)
}

/// What differs between the images.
pub struct Kind {
    /// Name of the program, and of the image on a machine of one's own.
    pub program: &'static str,
    description: &'static str,
    user: &'static str,
    arguments: &'static [&'static str],
    ports: &'static [&'static str],
}

impl Kind {
    /// Name of the archive of these programs.
    pub fn file(&self, tag: &str, programs: &[Program]) -> String {
        match programs {
            [one] => format!("{}-{tag}-{}.tar", self.program, one.architecture.name()),
            _ => format!("{}-{tag}.tar", self.program),
        }
    }

    fn contents<'a>(
        &self,
        name: &'a str,
        tag: &'a str,
        program: &'a Program,
        source: Option<&'a Source>,
    ) -> Contents<'a> {
        Contents {
            name,
            tag,
            architecture: program.architecture.name(),
            title: self.program,
            description: self.description,
            program: &program.bytes,
            user: self.user,
            arguments: self.arguments,
            ports: self.ports,
            revision: source.map(|source| source.revision.as_str()),
            created: source.map(|source| source.time.as_str()),
        }
    }
}

/// The agent.
pub const AGENT: Kind = Kind {
    program: "herder-agent",
    description: "Reports every OOM kill on a node and enforces memory.oom.group by policy",
    user: "0:0",
    arguments: &["run"],
    ports: &["9469/tcp"],
};

/// The test workload.
pub const HOG: Kind = Kind {
    program: "herder-hog",
    description: "A workload whose children grow until one of them is OOM-killed",
    user: "65532:65532",
    arguments: &[],
    ports: &[],
};

/// Writes an archive of one image, or of an index of several; gives the digest of the
/// manifest or index.
pub fn write(
    kind: &Kind,
    name: &str,
    tag: &str,
    programs: &[Program],
    file: &Path,
) -> Result<String> {
    let began = Instant::now();
    if name.contains(['@', ' ']) || tag.contains([':', '/', ' ']) {
        bail!("{name}:{tag} is no name of an image");
    }
    let source = build::source();
    let contents = |program| kind.contents(name, tag, program, source.as_ref());
    let (digest, archive) = match programs {
        [one] => archive(&contents(one))?,
        all => index(&all.iter().map(contents).collect::<Vec<_>>())?,
    };
    if kind.program == AGENT.program {
        let largest = LARGEST * programs.len();
        ensure!(archive.len() <= largest, "{} bytes are more than {largest}", archive.len());
        for program in programs {
            knows_its_revision(program)?;
        }
    }
    fs::write(file, &archive).with_context(|| format!("cannot write {}", file.display()))?;
    let shown = file.strip_prefix(workspace()).unwrap_or(file).display();
    say(&format!(
        "{shown}: {name}:{tag}, {} bytes, {digest} ({:.1} s)",
        archive.len(),
        began.elapsed().as_secs_f64()
    ));
    Ok(digest)
}

/// The digest of what an archive of this commit holds, as a registry names it.
pub fn digest_of(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(Source { revision, .. }) = build::source() {
        let is_of_it = names(&bytes, &format!("\"{revision}\""));
        ensure!(is_of_it, "{} is of another commit than {revision}", file.display());
    }
    for entry in tar::Archive::new(bytes.as_slice()).entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() == "index.json" {
            let index: serde_json::Value = serde_json::from_reader(entry)?;
            let digest = index["manifests"][0]["digest"].as_str();
            return digest.map(str::to_owned).context("its index names nothing");
        }
    }
    bail!("{} is no image", file.display())
}

fn knows_its_revision(program: &Program) -> Result<()> {
    let Some(source) = build::source() else { return Ok(()) };
    let knows = names(&program.bytes, &source.revision);
    ensure!(knows, "the agent does not know its revision {}", source.revision);
    Ok(())
}

fn names(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
