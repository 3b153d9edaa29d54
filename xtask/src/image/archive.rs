//! The archive: an OCI image layout (image-spec/image-layout.md) that is at the
//! same time what `docker save` writes (`manifest.json`), so that every engine
//! reads it. The same contents give the same bytes.

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;

/// What an image is made of.
#[derive(Clone, Copy)]
pub struct Contents<'a> {
    /// Name without the tag.
    pub name: &'a str,
    pub tag: &'a str,
    /// As Go calls it.
    pub architecture: &'a str,
    /// The program's name in the image's root.
    pub title: &'a str,
    pub description: &'a str,
    /// A static program: it is all there is.
    pub program: &'a [u8],
    /// `UID:GID`.
    pub user: &'a str,
    /// What it is started with, if nothing else is said.
    pub arguments: &'a [&'a str],
    /// `PORT/tcp`.
    pub ports: &'a [&'a str],
    /// The commit that it was built from.
    pub revision: Option<&'a str>,
    /// When that commit was made, RFC 3339; a clock would change the bytes.
    pub created: Option<&'a str>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The manifest's digest and the archive.
pub fn archive(contents: &Contents<'_>) -> Result<(String, Vec<u8>)> {
    let program = contents.program;
    let layer = tar([(contents.title.to_owned(), 0o755, program)])?;
    let compressed = gzip(&layer).context("cannot compress the layer")?;
    let config = serde_json::to_vec(&config(contents, &digest(&layer)))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &compressed)],
        "annotations": labels(contents),
    }))?;
    let name = format!("{}:{}", contents.name, contents.tag);
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({ "architecture": contents.architecture, "os": "linux" });
    entry["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": contents.tag,
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    let docker = serde_json::to_vec(&json!([{
        "Config": blob(&config),
        "RepoTags": [name],
        "Layers": [blob(&compressed)],
    }]))?;
    let layout = serde_json::to_vec(&json!({ "imageLayoutVersion": "1.0.0" }))?;
    let archive = tar([
        ("oci-layout".to_owned(), 0o644, layout.as_slice()),
        ("index.json".to_owned(), 0o644, &index),
        ("manifest.json".to_owned(), 0o644, &docker),
        (blob(&manifest), 0o644, &manifest),
        (blob(&config), 0o644, &config),
        (blob(&compressed), 0o644, &compressed),
    ])?;
    Ok((format!("sha256:{}", digest(&manifest)), archive))
}

/// image-spec/config.md.
fn config(contents: &Contents<'_>, layer: &str) -> Value {
    let ports: Map<String, Value> =
        contents.ports.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
    let mut config = json!({
        "architecture": contents.architecture,
        "os": "linux",
        "config": {
            "User": contents.user,
            "Entrypoint": [format!("/{}", contents.title)],
            "Cmd": contents.arguments,
            "WorkingDir": "/",
            "Labels": labels(contents),
            "ExposedPorts": ports,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created_by": "cargo xtask" }],
    });
    if let Some(created) = contents.created {
        config["created"] = created.into();
        config["history"][0]["created"] = created.into();
    }
    config
}

/// image-spec/annotations.md.
fn labels(contents: &Contents<'_>) -> Map<String, Value> {
    let known = [
        ("title", Some(contents.title)),
        ("description", Some(contents.description)),
        ("version", Some(env!("CARGO_PKG_VERSION"))),
        ("licenses", Some(env!("CARGO_PKG_LICENSE"))),
        ("revision", contents.revision),
        ("created", contents.created),
    ];
    let known = known.into_iter().filter_map(|(label, value)| Some((label, value?)));
    known
        .map(|(label, value)| (format!("org.opencontainers.image.{label}"), value.into()))
        .collect()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let digest = format!("sha256:{}", digest(bytes));
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", digest(bytes))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of root, without a time.
fn tar<'a>(files: impl IntoIterator<Item = (String, u32, &'a [u8])>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, &name, bytes).context("cannot write a tar archive")?;
    }
    archive.into_inner().context("cannot end a tar archive")
}

/// Without a name and a time.
fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, io::Read};

    const CONTENTS: Contents<'_> = Contents {
        name: "localhost/thing",
        tag: "1.2.3",
        architecture: "amd64",
        title: "thing",
        description: "A thing",
        program: b"\x7fELF and so on",
        user: "0:0",
        arguments: &["run"],
        ports: &["9469/tcp"],
        revision: Some("0123abcd"),
        created: Some("2026-01-02T03:04:05Z"),
    };

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        files.collect()
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        let first = archive(&CONTENTS).unwrap();
        assert_eq!(first, archive(&CONTENTS).unwrap());
        let other = Contents { revision: Some("0123abce"), ..CONTENTS };
        assert_ne!(first, archive(&other).unwrap());
    }

    #[test]
    fn every_digest_is_that_of_its_file() {
        let (digest_of_manifest, archive) = archive(&CONTENTS).unwrap();
        let files = files(&archive);
        for (name, bytes) in &files {
            if let Some(expected) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(bytes), expected);
            }
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let found = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index = json(&files["index.json"]);
        assert_eq!(index["manifests"][0]["digest"], digest_of_manifest);
        let manifest = json(&found(&index["manifests"][0]));
        let config = json(&found(&manifest["config"]));
        let mut layer = Vec::new();
        let compressed = found(&manifest["layers"][0]);
        flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));
        assert_eq!(config["config"]["Entrypoint"], json!(["/thing"]));
        let label = "org.opencontainers.image.revision";
        assert_eq!(config["config"]["Labels"][label], "0123abcd");

        let docker = json(&files["manifest.json"]);
        assert_eq!(docker[0]["RepoTags"], json!(["localhost/thing:1.2.3"]));
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
        assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()));

        let mut layer = tar::Archive::new(layer.as_slice());
        let program = layer.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(program.header().mode().unwrap(), 0o755);
        assert_eq!(program.path().unwrap().to_str(), Some("thing"));
    }
}
