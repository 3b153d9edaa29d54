//! Checksums of all files, and cosign's signature of the checksums. It is made with a key and
//! without the public log, so that it can be made and verified without a network.

use crate::{
    command::{program, run},
    pack, tools,
};
use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// The file of checksums.
pub const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";
/// The public half of the key that signed.
const PUBLIC: &str = "herder.pub";

/// Writes the checksums in the form that `sha256sum --check` reads.
pub fn sums(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<Result<Vec<_>>>()?;
    files.sort();
    let mut text = String::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        text += &format!("{}  {name}\n", pack::digest(&bytes));
    }
    fs::write(folder.join(SUMS), text).context("cannot write the checksums")
}

/// Whether the folder has exactly what was built and summed up.
pub fn unchanged(folder: &Path) -> Result<()> {
    checked(folder).context("a file is not the one that was built")?;
    let sums = fs::read_to_string(folder.join(SUMS)).context("there are no checksums")?;
    let built: BTreeSet<_> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let of_signing = [SUMS, SIGNATURE, PUBLIC].contains(&&*name);
        ensure!(of_signing || built.contains(&*name), "{name} was not built");
    }
    Ok(())
}

/// Signs the checksums, and puts the public key beside them.
pub fn sign(folder: &Path, key: &str) -> Result<()> {
    let mut blob = cosign()?;
    blob.args(["sign-blob", "--yes", "--tlog-upload=false", "--key", key]);
    blob.arg("--output-signature").arg(folder.join(SIGNATURE)).arg(folder.join(SUMS));
    quietly(&mut blob)?;
    let mut public = cosign()?;
    public.args(["public-key", "--key", key, "--outfile"]).arg(folder.join(PUBLIC));
    quietly(&mut public)?;
    verify(folder, &folder.join(PUBLIC))
}

/// Signs an image in a registry, by its digest, and the images of an index with it.
pub fn sign_image(image: &str, key: &str, options: &[&str], login: Option<&Path>) -> Result<()> {
    let mut sign = cosign()?;
    // cosign looks for credentials only where Docker has them.
    sign.envs(login.map(|directory| ("DOCKER_CONFIG", directory)));
    sign.args(["sign", "--yes", "--tlog-upload=false", "--recursive", "--key", key]);
    quietly(sign.args(options).arg(image))
}

/// Verifies that.
pub fn verify_image(image: &str, public: &Path, options: &[&str]) -> Result<()> {
    let mut verify = cosign()?;
    verify.args(["verify", "--insecure-ignore-tlog=true", "--key"]).arg(public);
    quietly(verify.args(options).arg(image))
}

/// What docs/install.md asks of users: the signature of the checksums, then the checksums.
pub fn verify(folder: &Path, public: &Path) -> Result<()> {
    let mut blob = cosign()?;
    blob.args(["verify-blob", "--insecure-ignore-tlog=true", "--key"]).arg(public);
    blob.arg("--signature").arg(folder.join(SIGNATURE)).arg(folder.join(SUMS));
    quietly(&mut blob).context("the signature is not that of the checksums")?;
    checked(folder).context("a file is not the one that was signed")
}

fn checked(folder: &Path) -> Result<()> {
    let mut check = program("sha256sum");
    check.current_dir(folder).args(["--check", "--quiet", "--strict", SUMS]);
    quietly(&mut check)
}

/// A pair of keys that is used once.
pub fn throw_away(directory: &Path) -> Result<String> {
    run(cosign()?.current_dir(directory).arg("generate-key-pair"))?;
    let key = directory.join("cosign.key");
    ensure!(key.exists(), "cosign made no key");
    Ok(key.display().to_string())
}

fn cosign() -> Result<Command> {
    let mut cosign = program(tools::cosign()?);
    if std::env::var_os("COSIGN_PASSWORD").is_none() {
        // It would ask, and nothing here has a terminal for that.
        cosign.env("COSIGN_PASSWORD", "");
    }
    Ok(cosign)
}

/// Runs it, and shows what it says only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let done = command.output().context("cannot start cosign or sha256sum")?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        bail!("{}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{made, output};

    #[test]
    fn checksums_are_what_sha256sum_reads() {
        let folder = output().unwrap().join("sums");
        let _ = fs::remove_dir_all(&folder);
        made(folder.clone()).unwrap();
        fs::write(folder.join("b"), "two").unwrap();
        fs::write(folder.join("a"), "one").unwrap();
        assert!(unchanged(&folder).is_err(), "without checksums");
        sums(&folder).unwrap();
        unchanged(&folder).unwrap();
        fs::write(folder.join(SIGNATURE), "signed").unwrap();
        unchanged(&folder).unwrap();
        fs::write(folder.join("c"), "three").unwrap();
        assert!(unchanged(&folder).is_err(), "one more");
        fs::remove_file(folder.join("c")).unwrap();
        fs::write(folder.join("a"), "onf").unwrap();
        assert!(unchanged(&folder).is_err(), "another");
        fs::remove_file(folder.join("a")).unwrap();
        assert!(unchanged(&folder).is_err(), "one less");
    }
}
