//! What leaves this machine: images and the chart to a registry, the files to GitHub.

use super::{VERSION, artefacts::Image, chart, notes, sign};
use crate::{
    command::{output, program, run, say},
    debian,
    helm::{HELMS, Helm},
    image::registry,
};
use anyhow::{Context, Result};
use std::{
    env, fs,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
};

/// Where the chart is in a registry.
pub const CHART: &str = "charts/herder";

/// Gets all programs that pushing, signing and publishing need.
pub fn tools() -> Result<()> {
    debian::need("skopeo", "skopeo")?;
    debian::need("gh", "gh")?;
    crate::tools::cosign()?;
    let (major, package) = HELMS[HELMS.len() - 1];
    Helm::get(major, package).map(drop)
}

/// Pushes the images and the chart, and signs them where they are.
pub fn push(folder: &Path, images: &[Image], to: &str, key: Option<&str>) -> Result<()> {
    let login = Login::from_environment(to)?;
    let file = login.as_ref().map(|login| format!("--dest-authfile={}", login.file().display()));
    let options: Vec<&str> = file.as_deref().into_iter().collect();
    let directory = login.as_ref().map(|login| login.directory.as_path());
    push_images(images, to, key, (&options, &[]), directory)?;
    let mut more = Vec::new();
    let config = login.as_ref().map(|login| login.file().display().to_string());
    if let Some(config) = &config {
        more.extend(["--registry-config", config]);
    }
    let digest = push_chart(folder, to, &more)?;
    if let Some(key) = key {
        sign::sign_image(&format!("{to}/{CHART}@{digest}"), key, &[], directory)?;
    }
    Ok(())
}

/// The images, signed by their digests. `login` is a directory with credentials, as Docker has one.
pub fn push_images(
    images: &[Image],
    to: &str,
    key: Option<&str>,
    (skopeo, cosign): (&[&str], &[&str]),
    login: Option<&Path>,
) -> Result<()> {
    for image in images {
        registry::push(&image.file, VERSION, &format!("{to}/{}:{VERSION}", image.name), skopeo)?;
        let named = format!("{to}/{}@{}", image.name, image.digest);
        if let Some(key) = key {
            sign::sign_image(&named, key, cosign, login)?;
        }
        say(&format!("pushed {named}"));
    }
    Ok(())
}

/// The chart, as `helm install oci://REGISTRY/charts/herder` finds it. Gives the digest of what Helm
/// pushed, by which it is signed as an image is; a registry that was asked could name another.
pub fn push_chart(folder: &Path, to: &str, options: &[&str]) -> Result<String> {
    let (major, package) = HELMS[HELMS.len() - 1];
    let place = format!("oci://{to}/charts");
    let file = folder.join(chart::name());
    let file = file.display().to_string();
    let arguments = [&["push", &file][..], options].concat();
    let said = Helm::get(major, package)?.run(&arguments, Path::new(&place))?;
    let digest = said.lines().find_map(|line| line.strip_prefix("Digest: "));
    let digest = digest.with_context(|| format!("Helm names no digest: {said}"))?.to_owned();
    say(&format!("pushed {to}/{CHART}@{digest}"));
    Ok(digest)
}

/// Credentials of a registry, in a directory of their own that is removed when this is dropped: what
/// the user has in `~/.docker` is neither read nor written.
struct Login {
    directory: PathBuf,
}

impl Login {
    fn new() -> Result<Self> {
        let directory = output()?.join(format!("login-{}", std::process::id()));
        // One of an earlier process that was killed.
        let _ = fs::remove_dir_all(&directory);
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Login { directory })
    }

    fn file(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    fn from_environment(to: &str) -> Result<Option<Self>> {
        let Ok(user) = env::var("REGISTRY_USER") else { return Ok(None) };
        let password = env::var("REGISTRY_PASSWORD").context("no REGISTRY_PASSWORD")?;
        debian::need("skopeo", "skopeo")?;
        let login = Login::new()?;
        let host = to.split('/').next().unwrap_or(to);
        let mut skopeo = program("skopeo");
        skopeo.args(["login", "--username", &user, "--password-stdin", "--authfile"]);
        let skopeo = skopeo.arg(login.file()).arg(host).stdin(Stdio::piped());
        let mut child = skopeo.spawn().context("cannot start skopeo")?;
        let mut input = child.stdin.take().context("skopeo has no input")?;
        input.write_all(password.as_bytes())?;
        drop(input);
        anyhow::ensure!(child.wait()?.success(), "{host} does not let {user} in");
        Ok(Some(login))
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            let directory = self.directory.display();
            say(&format!("cannot remove the credentials in {directory}: {error}"));
        }
    }
}

/// Makes a release of a tag, with all files and what the changelog says.
pub fn github(folder: &Path, tag: &str) -> Result<()> {
    debian::need("gh", "gh")?;
    let said = output()?.join("notes.md");
    fs::write(&said, notes::of(VERSION)?)?;
    let mut gh = program("gh");
    gh.args(["release", "create", tag, "--verify-tag", "--title", tag, "--notes-file"]).arg(&said);
    for entry in fs::read_dir(folder)? {
        gh.arg(entry?.path());
    }
    run(&mut gh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A file of the user's would be overwritten, and be gone at the end.
    #[test]
    fn credentials_are_in_a_directory_of_their_own_and_go_with_it() {
        let login = Login::new().unwrap();
        let directory = login.directory.clone();
        assert!(directory.starts_with(crate::command::workspace().join("target")));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(login.file(), "{}").unwrap();
        drop(login);
        assert!(!directory.exists());
    }
}
