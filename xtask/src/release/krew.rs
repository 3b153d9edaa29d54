//! The plugin's manifest for krew: the committed template with the checksums of a release's
//! archives filled in, as krew's release bot does it, and checked by krew's own rules.

use super::VERSION;
use crate::{command::workspace, pack};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// Name of the plugin, and so of the file: krew asks for that.
const NAME: &str = "herder";

/// Longest lines that krew does not complain about.
const LONGEST: [usize; 2] = [70, 80];

/// Writes the manifest of the plugin's archives in the folder.
pub fn write(folder: &Path) -> Result<()> {
    let template = workspace().join("deploy/krew/herder.yaml");
    let template = fs::read_to_string(template).context("cannot read the template for krew")?;
    let digest = |name: &str| Some(pack::digest(&fs::read(folder.join(name)).ok()?));
    let manifest = filled(&template, &format!("v{VERSION}"), digest)?;
    check(&manifest)?;
    fs::write(folder.join(format!("{NAME}.yaml")), manifest).context("cannot write it")
}

/// The template with everything filled in. A platform whose archive is not there is left out.
fn filled(template: &str, tag: &str, digest: impl Fn(&str) -> Option<String>) -> Result<String> {
    let manifest = template.replace("{{ .TagName }}", tag);
    let (head, platforms) = manifest.split_once("    - selector:").context("no platforms")?;
    let mut filled =
        head.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    for platform in platforms.split("    - selector:") {
        let mut lines = Vec::new();
        let mut is_there = true;
        for line in platform.lines() {
            let Some(call) = line.trim().strip_prefix("{{ addURIAndSha \"") else {
                lines.push(line.to_owned());
                continue;
            };
            let (uri, _) = call.split_once('"').context("an address without an end")?;
            let name = uri.rsplit('/').next().unwrap_or_default();
            match digest(name) {
                Some(digest) => {
                    lines.extend([format!("      uri: {uri}"), format!("      sha256: {digest}")]);
                }
                None => is_there = false,
            }
        }
        if is_there {
            filled += &format!("\n    - selector:{}", lines.join("\n"));
        }
    }
    ensure!(!filled.contains("{{"), "something of the template is not filled in:\n{filled}");
    Ok(filled.trim().to_owned() + "\n")
}

/// What krew reads; it refuses keys that it does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    version: String,
    #[serde(default)]
    homepage: String,
    short_description: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    caveats: String,
    platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    selector: Selector,
    uri: String,
    sha256: String,
    bin: String,
}

/// Only the form that the plugin uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

/// The rules of krew's own `ValidatePlugin()` and `validate-krew-manifest`, as far as they are about
/// keys that this plugin has. Long lines are a warning there.
pub fn check(manifest: &str) -> Result<()> {
    let plugin: Plugin = serde_saphyr::from_str(manifest).context("krew cannot read it")?;
    let Plugin { api_version, kind, metadata, spec } = plugin;
    ensure!(api_version == "krew.googlecontainertools.github.com/v1alpha2", "{api_version}");
    ensure!(kind == "Plugin", "the kind {kind}");
    ensure!(metadata.name == NAME, "{}.yaml has the plugin {}", NAME, metadata.name);
    let numbers = spec.version.strip_prefix('v').context("a version without v")?;
    let numbers: Vec<_> = numbers.split('.').collect();
    let is_number =
        |number: &&str| number.parse::<u64>().is_ok_and(|it| it.to_string() == **number);
    ensure!(numbers.len() == 3 && numbers.iter().all(is_number), "the version {}", spec.version);
    ensure!(spec.homepage.starts_with("https://"), "the homepage {:?}", spec.homepage);
    ensure!(!spec.short_description.is_empty(), "no short description");
    ensure!(!spec.short_description.contains(['\r', '\n']), "a short description of two lines");
    let [short, long] = LONGEST;
    for (text, longest) in
        [(&spec.short_description, short), (&spec.description, long), (&spec.caveats, long)]
    {
        let line = text.lines().find(|line| line.len() > longest && line.trim().contains(' '));
        ensure!(line.is_none(), "a line has more than {longest} bytes: {line:?}");
    }
    ensure!(!spec.platforms.is_empty(), "no platforms");
    let mut selected = Vec::new();
    for Platform { selector, uri, sha256, bin } in &spec.platforms {
        let hexadecimal = |letter: char| letter.is_ascii_digit() || ('a'..='f').contains(&letter);
        ensure!(uri.starts_with("https://"), "the address {uri:?}");
        ensure!(sha256.len() == 64 && sha256.chars().all(hexadecimal), "the checksum {sha256:?}");
        ensure!(!bin.is_empty(), "no program");
        let labels: Vec<_> = selector
            .match_labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        match labels[..] {
            [("arch", "amd64" | "arm64"), ("os", "linux")] if !selected.contains(&labels) => {
                selected.push(labels);
            }
            _ => bail!("the selector {labels:?} is of no platform, or there twice"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> String {
        fs::read_to_string(workspace().join("deploy/krew/herder.yaml")).unwrap()
    }

    fn manifest() -> String {
        filled(&template(), "v1.2.3", |name| Some(pack::digest(name.as_bytes()))).unwrap()
    }

    #[test]
    fn the_template_becomes_what_krew_takes() {
        let manifest = manifest();
        check(&manifest).unwrap();
        let plugin: Plugin = serde_saphyr::from_str(&manifest).unwrap();
        for (platform, architecture) in plugin.spec.platforms.iter().zip(["amd64", "arm64"]) {
            let name = format!("kubectl-herder-linux-{architecture}.tar.gz");
            assert!(platform.uri.ends_with(&format!("/releases/download/v1.2.3/{name}")));
            assert_eq!(platform.sha256, pack::digest(name.as_bytes()));
            assert_eq!(platform.selector.match_labels["arch"], architecture);
        }
        assert_eq!(plugin.spec.platforms.len(), 2);
    }

    #[test]
    fn a_platform_without_an_archive_is_left_out() {
        let digest = |name: &str| name.contains("amd64").then(|| pack::digest(b""));
        let manifest = filled(&template(), "v1.2.3", digest).unwrap();
        check(&manifest).unwrap();
        assert!(
            manifest.contains("arch: amd64") && !manifest.contains("arch: arm64"),
            "{manifest}"
        );
        let none = filled(&template(), "v1.2.3", |_| None).unwrap();
        assert!(check(&none).is_err(), "{none}");
    }

    #[test]
    fn krews_rules_are_kept() {
        let manifest = manifest();
        for (from, to) in [
            ("v1alpha2", "v1alpha1"),
            ("kind: Plugin", "kind: Plugins"),
            ("name: herder", "name: herd"),
            ("version: v1.2.3", "version: 1.2.3"),
            ("version: v1.2.3", "version: v1.2"),
            ("version: v1.2.3", "version: v1.02.3"),
            ("version: v1.2.3", "version: {{ .TagName }}"),
            ("shortDescription: Show", "shortDescription: |\n    Show\n    Show"),
            ("shortDescription:", "short:"),
            (
                "Asks the Herder agents",
                "Asks the Herder agents of all nodes, of which there are many",
            ),
            ("arch: amd64", "arch: arm64"),
            ("os: linux", "os: plan9"),
            ("os: linux", "system: linux"),
            ("sha256: ", "sha256: 0"),
            ("uri: https", "uri: http"),
            ("bin: kubectl-herder", "bin: ''"),
            ("bin: kubectl-herder", "binary: kubectl-herder"),
        ] {
            assert!(manifest.contains(from), "{from} is not in\n{manifest}");
            assert!(check(&manifest.replacen(from, to, 1)).is_err(), "{from} => {to}");
        }
    }
}
