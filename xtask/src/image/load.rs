//! Whether engines load an archive: containerd itself, containers/image, by which
//! podman and CRI-O read archives (skopeo is its command line), and podman.

use crate::{
    command::{asked, cache, made, output, program, run, say, tied},
    debian::{self, Suite},
};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Loads the archive with each, and compares the program that comes out.
pub fn check(archive: &Path, expected: &[u8], name: &str, architecture: &str) -> Result<()> {
    let scratch = output()?.join("load");
    let _ = fs::remove_dir_all(&scratch);
    made(scratch.clone())?;
    for format in ["oci-archive", "docker-archive"] {
        skopeo(archive, format, &scratch, expected, name)
            .with_context(|| format!("skopeo does not read it as {format}"))?;
    }
    containerd(archive, &scratch, architecture).context("containerd does not import it")?;
    let podman = podman(archive, &scratch, expected, name).context("podman does not load it")?;
    fs::remove_dir_all(&scratch).context("cannot remove what was loaded")?;
    say(&format!("skopeo, containerd{} load it", if podman { " and podman" } else { "" }));
    Ok(())
}

fn skopeo(archive: &Path, format: &str, scratch: &Path, expected: &[u8], name: &str) -> Result<()> {
    debian::need("skopeo", "skopeo")?;
    let copy = scratch.join(format);
    let mut skopeo = program("skopeo");
    // It unpacks the layers of a docker-archive.
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-compress"]);
    run(skopeo
        .arg(format!("{format}:{}", archive.display()))
        .arg(format!("dir:{}", copy.display())))?;
    is_in(&copy, expected, name)
}

/// Whether the first layer of an image that skopeo has copied to a directory begins with
/// this program.
pub(super) fn is_in(copy: &Path, expected: &[u8], name: &str) -> Result<()> {
    let manifest = fs::read(copy.join("manifest.json"))?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let digest = manifest["layers"][0]["digest"].as_str().context("no layer")?;
    let layer = fs::File::open(copy.join(digest.trim_start_matches("sha256:")))?;
    let mut layer = tar::Archive::new(GzDecoder::new(layer));
    let mut entry = layer.entries()?.next().context("the layer is empty")??;
    ensure!(entry.path()?.as_os_str() == name, "the layer begins with {:?}", entry.path()?);
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    ensure!(bytes == expected, "{name} in the layer is not the program");
    Ok(())
}

/// Loads it into a storage of its own, which mounts nothing, where podman is
/// installed; returns whether it is.
fn podman(archive: &Path, scratch: &Path, expected: &[u8], name: &str) -> Result<bool> {
    let root = scratch.join("podman");
    let podman = || {
        let mut podman = program("podman");
        podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        podman.args(["--events-backend", "none", "--root"]).arg(&root);
        podman.arg("--runroot").arg(scratch.join("podman-state"));
        podman
    };
    if asked(podman().arg("--version")).is_none() {
        return Ok(false);
    }
    run(podman().args(["load", "--quiet", "--input"]).arg(archive))?;
    // A layer is a directory there.
    let layers = fs::read_dir(root.join("vfs/dir"))?.collect::<Result<Vec<_>, _>>()?;
    let loaded = layers.iter().find_map(|layer| fs::read(layer.path().join(name)).ok());
    ensure!(loaded.as_deref() == Some(expected), "{name} in podman's storage is not the program");
    Ok(true)
}

/// Imports it into a containerd of its own, which is not installed and touches
/// neither cgroups nor the machine's containerd. Not unpacked, since that mounts.
fn containerd(archive: &Path, scratch: &Path, architecture: &str) -> Result<()> {
    let bin = containerd_programs()?;
    let server = Containerd::start(&bin, scratch)?;
    let platform = format!("linux/{architecture}");
    let mut import = server.ctr();
    import.args(["images", "import", "--no-unpack", "--platform", &platform]);
    run(import.arg(archive))?;
    // Reads the manifest and the configuration to learn the platform.
    let images = asked(server.ctr().args(["images", "list"])).context("cannot list the images")?;
    let image =
        images.lines().nth(1).with_context(|| format!("nothing was imported:\n{images}"))?;
    ensure!(image.contains(&platform), "the image is not for {platform}: {image}");
    let stored = asked(server.ctr().args(["content", "list", "--quiet"]));
    let stored = stored.context("cannot list the content")?.lines().count();
    ensure!(stored >= 3, "manifest, configuration and layer are not all there: {stored}");
    Ok(())
}

/// Where Debian 13's `containerd` and `ctr` are.
fn containerd_programs() -> Result<PathBuf> {
    let directory = cache()?.join("containerd");
    if !directory.exists() {
        let suite = Suite::open("trixie", &made(cache()?.join("apt"))?)?;
        let part = directory.with_extension("part");
        let _ = fs::remove_dir_all(&part);
        made(part.clone())?;
        let archive = suite.download("containerd", &part)?;
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&part))?;
        fs::remove_file(archive)?;
        fs::rename(&part, &directory)?;
    }
    Ok(directory.join("usr/bin"))
}

/// A containerd that is stopped when it is dropped.
struct Containerd {
    server: Child,
    ctr: PathBuf,
    /// In the directory for temporary files, since the path of a socket is short.
    socket: PathBuf,
}

impl Containerd {
    fn start(bin: &Path, scratch: &Path) -> Result<Self> {
        let socket = std::env::temp_dir().join(format!("herder-{}.sock", std::process::id()));
        let (root, state) = (scratch.join("root"), scratch.join("state"));
        let config = scratch.join("containerd.toml");
        // Without the plugins that would talk to the kernel or the network.
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\", \
             \"io.containerd.internal.v1.opt\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\"]\n\
             [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = \"{}.ttrpc\"\n",
            socket.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let log = fs::File::create(scratch.join("containerd.log"))?;
        let mut command = tied(bin.join("containerd"));
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.stderr(log).spawn().context("cannot start containerd")?;
        let mut containerd = Containerd { server, ctr: bin.join("ctr"), socket };
        let deadline = Instant::now() + Duration::from_secs(30);
        while asked(containerd.ctr().arg("version")).is_none() {
            let ended = containerd.server.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(scratch.join("containerd.log")).unwrap_or_default();
                bail!("containerd does not answer:\n{log}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(containerd)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new(&self.ctr);
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]);
        ctr
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(self.socket.with_extension("sock.ttrpc"));
    }
}
