//! Bills of materials (CycloneDX): what is in each program and image, for those who look
//! for known vulnerabilities. cargo-cyclonedx writes what cargo knows; added is what it does
//! not: the crates of the eBPF object, Rust's library, and the C library that is linked in.

use super::VERSION;
use crate::{
    build::{self, Architecture},
    command::{run, workspace},
    pack, tools,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Name of the files that cargo-cyclonedx writes beside each package.
const SCRATCH: &str = "herder-sbom";

/// A program that is released.
pub struct Subject<'a> {
    /// Its name, and its image's.
    pub name: &'static str,
    /// The directory of its package.
    pub directory: &'static str,
    /// The crates of the eBPF object are in it too.
    pub has_object: bool,
    /// It is released as an image too.
    pub has_image: bool,
    pub files: &'a [(Architecture, PathBuf)],
}

/// Writes one for a program, and one for its image, for each architecture.
pub fn write(subject: &Subject<'_>, folder: &Path) -> Result<()> {
    let name = subject.name;
    for (architecture, file) in subject.files {
        let bill = program_bill(subject, *architecture, file)?;
        keep(name, &bill, *architecture, folder)?;
        if subject.has_image {
            let image = image_bill(name, bill, *architecture);
            keep(&format!("{name}-image"), &image, *architecture, folder)?;
        }
    }
    Ok(())
}

fn keep(kind: &str, bill: &Value, architecture: Architecture, folder: &Path) -> Result<()> {
    let name = format!("{kind}-{VERSION}-{}.cdx.json", architecture.name());
    let text = serde_json::to_string_pretty(bill)? + "\n";
    fs::write(folder.join(&name), text).with_context(|| format!("cannot write {name}"))
}

fn program_bill(
    subject: &Subject<'_>,
    architecture: Architecture,
    program: &Path,
) -> Result<Value> {
    let mut bill = cargo(subject.directory, architecture.target(), &[])?;
    if subject.has_object {
        let object = cargo("herder-agent-ebpf", "bpfel-unknown-none", &["--features", "programs"])?;
        merge(&mut bill, &object)?;
    }
    let toolchain = build::toolchain(architecture)?;
    link(&mut bill, "rust-std", &toolchain.rustc, "MIT OR Apache-2.0", "pkg:generic/rust-std")?;
    link(&mut bill, "glibc", &toolchain.libc, "LGPL-2.1-or-later", "pkg:generic/glibc")?;
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    bill["metadata"]["component"]["hashes"] =
        json!([{ "alg": "SHA-256", "content": pack::digest(&bytes) }]);
    Ok(bill)
}

/// An image has its program in it, and nothing else.
fn image_bill(name: &str, mut bill: Value, architecture: Architecture) -> Value {
    let program = bill["metadata"]["component"].take();
    let image = format!("image/{name}@{VERSION}");
    let dependency = json!({ "ref": image, "dependsOn": [program["bom-ref"]] });
    bill["metadata"]["component"] = json!({
        "type": "container",
        "bom-ref": image,
        "name": name,
        "version": VERSION,
        "properties": [{ "name": "herder:architecture", "value": architecture.name() }],
    });
    for (list, item) in [("components", program), ("dependencies", dependency)] {
        if let Some(list) = bill[list].as_array_mut() {
            list.insert(0, item);
        }
    }
    bill
}

/// What cargo-cyclonedx says of a package.
fn cargo(package: &str, target: &str, more: &[&str]) -> Result<Value> {
    let mut command = tools::cargo_cyclonedx()?;
    command.current_dir(workspace()).args(["--quiet", "--format", "json", "--no-build-deps"]);
    command.args(["--spec-version", "1.5", "--override-filename", SCRATCH, "--target", target]);
    command.arg("--manifest-path").arg(workspace().join(package).join("Cargo.toml")).args(more);
    // With a fixed time there is no random serial number either.
    let epoch = build::source().map_or(0, |source| source.epoch);
    command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    let done = run(&mut command);
    let text = fs::read_to_string(workspace().join(package).join(format!("{SCRATCH}.json")));
    // It writes one beside each package of the workspace.
    for member in ["", "*/", "*/*/"] {
        let pattern = format!("{}/{member}{SCRATCH}.json", workspace().display());
        run(std::process::Command::new("sh").args(["-c", &format!("rm -f {pattern}")]))?;
    }
    done?;
    let text = text.with_context(|| format!("cargo-cyclonedx wrote nothing about {package}"))?;
    let text = text.replace(&format!("file://{}", workspace().display()), "file:///herder");
    let bill: Value = serde_json::from_str(&text)?;
    ensure!(bill["bomFormat"] == "CycloneDX", "what cargo-cyclonedx wrote is no bill");
    Ok(bill)
}

/// Adds the components of another bill, and what they depend on.
fn merge(bill: &mut Value, other: &Value) -> Result<()> {
    let components = bill["components"].as_array_mut().context("no components")?;
    let known: BTreeSet<String> =
        components.iter().map(|component| component["bom-ref"].to_string()).collect();
    for component in other["components"].as_array().into_iter().flatten() {
        if !known.contains(&component["bom-ref"].to_string()) {
            components.push(component.clone());
        }
    }
    components.sort_by_key(|component| component["bom-ref"].to_string());
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for bill in [&*bill, other] {
        for dependency in bill["dependencies"].as_array().into_iter().flatten() {
            let from = dependency["ref"].as_str().context("a dependency of nothing")?;
            let to = dependency["dependsOn"].as_array().into_iter().flatten();
            let to = to.filter_map(|to| Some(to.as_str()?.to_owned()));
            edges.entry(from.to_owned()).or_default().extend(to);
        }
    }
    let edges = edges.into_iter().map(|(from, to)| json!({ "ref": from, "dependsOn": to }));
    bill["dependencies"] = edges.collect();
    Ok(())
}

/// Adds a library that cargo does not know and that is linked into the program.
fn link(bill: &mut Value, name: &str, version: &str, licence: &str, purl: &str) -> Result<()> {
    let reference = format!("{name}@{version}");
    let program = bill["metadata"]["component"]["bom-ref"].clone();
    let component = json!({
        "type": "library", "bom-ref": reference, "name": name, "version": version,
        "scope": "required", "licenses": [{ "expression": licence }],
        "purl": format!("{purl}@{}", version.replace('+', "%2B")),
    });
    bill["components"].as_array_mut().context("no components")?.push(component);
    let edges = bill["dependencies"].as_array_mut().context("no dependencies")?;
    edges.push(json!({ "ref": reference }));
    let own = edges.iter_mut().find(|edge| edge["ref"] == program).context("no program")?;
    own["dependsOn"].as_array_mut().context("a program of nothing")?.push(reference.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill() -> Value {
        json!({
            "metadata": { "component": { "bom-ref": "agent" } },
            "components": [{ "bom-ref": "b" }, { "bom-ref": "a" }],
            "dependencies": [{ "ref": "agent", "dependsOn": ["b"] }, { "ref": "b" }],
        })
    }

    #[test]
    fn what_two_bills_have_in_common_is_there_once() {
        let mut all = bill();
        let other = json!({
            "components": [{ "bom-ref": "b" }, { "bom-ref": "c" }],
            "dependencies": [{ "ref": "b", "dependsOn": ["c"] }, { "ref": "c" }],
        });
        merge(&mut all, &other).unwrap();
        assert_eq!(
            all["components"],
            json!([{ "bom-ref": "a" }, { "bom-ref": "b" }, { "bom-ref": "c" }])
        );
        assert_eq!(all["dependencies"][1], json!({ "ref": "b", "dependsOn": ["c"] }));
        assert_eq!(all["dependencies"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn linked_libraries_and_the_image_are_part_of_the_graph() {
        let mut all = bill();
        link(&mut all, "glibc", "2.36-9+deb12u1", "LGPL-2.1-or-later", "pkg:generic/glibc")
            .unwrap();
        assert_eq!(all["components"][2]["purl"], "pkg:generic/glibc@2.36-9%2Bdeb12u1");
        assert_eq!(all["dependencies"][0]["dependsOn"], json!(["b", "glibc@2.36-9+deb12u1"]));
        let image = image_bill("herder-agent", all, Architecture::Arm64);
        assert_eq!(image["metadata"]["component"]["type"], "container");
        assert_eq!(image["dependencies"][0]["dependsOn"], json!(["agent"]));
        assert_eq!(image["components"][0]["bom-ref"], "agent");
    }
}
