//! What makes a release trustworthy, tried: the same bytes twice, packages that Debian's and
//! Red Hat's tools take, a signature that a changed byte breaks, a registry that takes all.

use super::{
    VERSION,
    artefacts::{self, Image, Programs},
    finish, handed_over, packages, publish, sign,
};
use crate::{
    command::{asked, made, output, program, run_timed, say},
    debian,
    image::registry::Registry,
};
use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeMap, fs, path::Path};

/// With programs that are built already.
pub fn prove(programs: &Programs) -> Result<()> {
    let folder = output()?.join("release");
    let images = artefacts::write(programs, &folder)?;
    let again = output()?.join("release-again");
    artefacts::write(programs, &again)?;
    same(&folder, &again)?;
    fs::remove_dir_all(again)?;
    for (architecture, _) in &programs.agents {
        let [deb, rpm] = packages::names(*architecture).map(|name| folder.join(name));
        check_deb(&deb)?;
        check_rpm(&rpm)?;
    }
    let scratch = output()?.join("throw-away");
    let _ = fs::remove_dir_all(&scratch);
    let key = sign::throw_away(&made(scratch.clone())?)?;
    sign::sums(&folder)?;
    finish(&folder, Some(&key))?;
    can_be_handed_over(&folder, &images)?;
    let public = scratch.join("cosign.pub");
    broken(&folder, &public)?;
    sign::verify(&folder, &public)?;
    let registry = Registry::start()?;
    let to = registry.address.to_string();
    let (skopeo, cosign) = (["--dest-tls-verify=false"], ["--allow-http-registry"]);
    publish::push_images(&images, &to, Some(&key), (&skopeo, &cosign), None)?;
    let chart = publish::push_chart(&folder, &to, &["--plain-http"])?;
    let named = format!("{to}/{}@{chart}", publish::CHART);
    ensure!(
        sign::verify_image(&named, &public, &cosign).is_err(),
        "the chart is verified before it is signed"
    );
    sign::sign_image(&named, &key, &cosign, None)?;
    let other = sign::throw_away(&made(scratch.join("other"))?)?;
    let other = Path::new(&other).with_extension("pub");
    let names = images.iter().map(|image| image.name).chain([publish::CHART]);
    for named in names.map(|name| format!("{to}/{name}:{VERSION}")) {
        sign::verify_image(&named, &public, &cosign)?;
        ensure!(
            sign::verify_image(&named, &other, &cosign).is_err(),
            "{named} is verified by a key that did not sign it"
        );
    }
    say("The release is the same twice, and its signatures hold.");
    Ok(())
}

/// `--finish` takes the folder for what was made, and no other.
fn can_be_handed_over(folder: &Path, images: &[Image]) -> Result<()> {
    let found = handed_over(folder)?;
    let named = |images: &[Image]| -> Vec<_> {
        images.iter().map(|it| (it.name, it.file.clone(), it.digest.clone())).collect()
    };
    ensure!(named(&found) == named(images), "other images are found in the folder");
    let more = folder.join("more");
    fs::write(&more, "not built")?;
    let with_more = handed_over(folder);
    fs::remove_file(more)?;
    ensure!(with_more.is_err(), "a file that was not built is not seen");
    Ok(())
}

fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(folder)?.map(|entry| {
        let path = entry?.path();
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), fs::read(path)?))
    });
    entries.collect()
}

fn same(one: &Path, other: &Path) -> Result<()> {
    let (one, other) = (files(one)?, files(other)?);
    ensure!(one.keys().eq(other.keys()), "{:?} and {:?}", one.keys(), other.keys());
    for (name, bytes) in &one {
        ensure!(other.get(name) == Some(bytes), "{name} is not the same twice");
    }
    Ok(())
}

/// Changes a byte of each file in turn.
fn broken(folder: &Path, public: &Path) -> Result<()> {
    for (name, bytes) in files(folder)? {
        if name == "herder.pub" {
            continue;
        }
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        *changed.get_mut(middle).with_context(|| format!("{name} is empty"))? ^= 1;
        fs::write(folder.join(&name), changed)?;
        let verified = sign::verify(folder, public);
        fs::write(folder.join(&name), bytes)?;
        if verified.is_ok() {
            bail!("a changed byte of {name} is not seen");
        }
    }
    Ok(())
}

fn check_deb(deb: &Path) -> Result<()> {
    debian::need("lintian", "lintian")?;
    let mut lintian = program("lintian");
    // As root it says that it should not be.
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
    run_timed("lintian", lintian.arg(deb))?;
    let list = asked(program("dpkg-deb").arg("--contents").arg(deb)).context("no package")?;
    has_all(&list, deb)
}

fn check_rpm(rpm: &Path) -> Result<()> {
    debian::need("rpm", "rpm")?;
    let mut query = program("rpm");
    query.args(["--query", "--package", "--list"]);
    let list = asked(query.arg(rpm)).context("rpm does not read the package")?;
    has_all(&list, rpm)?;
    let mut digests = program("rpm");
    digests.args(["--checksig", "--nosignature"]);
    asked(digests.arg(rpm)).context("a digest in the rpm is wrong").map(drop)
}

fn has_all(list: &str, package: &Path) -> Result<()> {
    for path in [
        "/usr/bin/herder-agent",
        "/usr/lib/systemd/system/herder-agent.service",
        "/etc/herder/herder.yaml",
        "/usr/share/man/man1/herder-agent.1.gz",
        "/usr/share/doc/herder-agent/copyright",
    ] {
        ensure!(list.contains(path), "{} has no {path}:\n{list}", package.display());
    }
    Ok(())
}
