//! A registry of this machine, to which an image is pushed and from which it is pulled as
//! clusters do it: Docker's distribution.

use super::{Program, load::is_in};
use crate::{
    command::{made, output, program, run, say, tied},
    debian, pack, tools,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// A registry with nothing in it, stopped when dropped.
pub struct Registry {
    child: Child,
    pub address: SocketAddr,
    directory: PathBuf,
}

impl Registry {
    pub fn start() -> Result<Self> {
        let directory = output()?.join(format!("registry-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let directory = made(directory)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = directory.join("config.json");
        let settings = serde_json::json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": directory.join("storage") } },
            "http": { "addr": address },
        });
        fs::write(&config, settings.to_string())?;
        let log = File::create(directory.join("log"))?;
        let mut command = tied(tools::registry()?);
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context("cannot start the registry")?;
        let mut registry = Registry { child, address, directory };
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if registry.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(registry.directory.join("log")).unwrap_or_default();
                bail!("the registry does not answer:\n{log}");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Pushes an index, and pulls the image of each architecture by the one name.
pub fn check(file: &Path, name: &str, tag: &str, digest: &str, all: &[Program]) -> Result<()> {
    let registry = Registry::start()?;
    let image = format!("{}/{name}:{tag}", registry.address);
    push(file, tag, &image, &["--dest-tls-verify=false"])?;
    let found = self::digest(&image, &["--tls-verify=false"])?;
    ensure!(found == digest, "the registry has {found} instead of {digest}");
    for Program { architecture, bytes } in all {
        let copy = registry.directory.join(architecture.name());
        let mut pull = skopeo()?;
        pull.args(["--override-os", "linux", "--override-arch", architecture.name(), "copy"]);
        pull.args(["--quiet", "--src-tls-verify=false"]).arg(format!("docker://{image}"));
        run(pull.arg(format!("dir:{}", copy.display())))?;
        is_in(&copy, bytes, name).with_context(|| format!("pulled for {}", architecture.name()))?;
    }
    say(&format!("a registry takes {digest}, and gives each architecture its image"));
    Ok(())
}

/// The digest of what a registry has by a name.
pub fn digest(image: &str, options: &[&str]) -> Result<String> {
    let mut inspect = skopeo()?;
    inspect.args(["inspect", "--raw"]).args(options).arg(format!("docker://{image}"));
    let done = inspect.output().context("cannot start skopeo")?;
    if !done.status.success() {
        bail!("{image}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(format!("sha256:{}", pack::digest(&done.stdout)))
}

/// Pushes all that is in an archive, as it is.
pub fn push(file: &Path, tag: &str, image: &str, options: &[&str]) -> Result<()> {
    let mut copy = skopeo()?;
    copy.args(["copy", "--quiet", "--all", "--preserve-digests"]).args(options);
    copy.arg(format!("oci-archive:{}:{tag}", file.display()));
    run(copy.arg(format!("docker://{image}")))
}

fn skopeo() -> Result<Command> {
    debian::need("skopeo", "skopeo")?;
    let mut skopeo = program("skopeo");
    skopeo.arg("--insecure-policy");
    Ok(skopeo)
}
