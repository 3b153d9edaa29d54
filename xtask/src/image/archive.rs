//! The archive: an OCI image layout (image-spec/image-layout.md) that is at the
//! same time what `docker save` writes (`manifest.json`), so that every engine
//! reads it. The same contents give the same bytes.

use crate::pack::{digest, gzip, tar};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

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
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One architecture's image.
struct Image {
    /// Of its manifest, with the platform.
    descriptor: Value,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    fn new(contents: &Contents<'_>) -> Result<Self> {
        let files = tar([(contents.title.to_owned(), 0o755, contents.program)])?;
        let layer = gzip(&files)?;
        let config = serde_json::to_vec(&config(contents, &digest(&files)))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &layer)],
            "annotations": labels(contents),
        }))?;
        let mut descriptor = descriptor(MANIFEST, &manifest);
        descriptor["platform"] = json!({ "architecture": contents.architecture, "os": "linux" });
        Ok(Image { descriptor, manifest, config, layer })
    }

    fn blobs(&self) -> impl Iterator<Item = (String, u32, &[u8])> {
        [&self.manifest, &self.config, &self.layer]
            .into_iter()
            .map(|bytes| (blob(bytes), 0o644, bytes.as_slice()))
    }
}

/// The manifest's digest and the archive of one image.
pub fn archive(contents: &Contents<'_>) -> Result<(String, Vec<u8>)> {
    let image = Image::new(contents)?;
    let docker = serde_json::to_vec(&json!([{
        "Config": blob(&image.config),
        "RepoTags": [format!("{}:{}", contents.name, contents.tag)],
        "Layers": [blob(&image.layer)],
    }]))?;
    let files = std::iter::once(("manifest.json".to_owned(), 0o644, docker.as_slice()));
    let archive = layout(contents, image.descriptor.clone(), files.chain(image.blobs()))?;
    Ok((format!("sha256:{}", digest(&image.manifest)), archive))
}

/// The digest of an index of images that differ in their architecture, and an archive of all.
/// `docker load` has no form for that; engines that read OCI layouts take it.
pub fn index(all: &[Contents<'_>]) -> Result<(String, Vec<u8>)> {
    let first = all.first().context("an index of no images")?;
    let images = all.iter().map(Image::new).collect::<Result<Vec<_>>>()?;
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": images.iter().map(|image| &image.descriptor).collect::<Vec<_>>(),
        "annotations": labels(first),
    }))?;
    let files = std::iter::once((blob(&index), 0o644, index.as_slice()));
    let files = files.chain(images.iter().flat_map(Image::blobs));
    let archive = layout(first, descriptor(INDEX, &index), files)?;
    Ok((format!("sha256:{}", digest(&index)), archive))
}

/// An image layout with one name in it.
fn layout<'a>(
    contents: &Contents<'_>,
    mut named: Value,
    files: impl Iterator<Item = (String, u32, &'a [u8])>,
) -> Result<Vec<u8>> {
    let files: Vec<_> = files.collect();
    named["annotations"] = json!({
        "io.containerd.image.name": format!("{}:{}", contents.name, contents.tag),
        "org.opencontainers.image.ref.name": contents.tag,
    });
    let entry = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] });
    let (layout, entry) = (json!({ "imageLayoutVersion": "1.0.0" }).to_string(), entry.to_string());
    let head = [("oci-layout", layout.as_bytes()), ("index.json", entry.as_bytes())];
    tar(head
        .map(|(name, bytes)| (name.to_owned(), 0o644, bytes))
        .into_iter()
        .chain(files.iter().cloned()))
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

    /// One name, from which each node takes what it can run.
    #[test]
    fn an_index_has_an_image_for_each_architecture() {
        let other = Contents { architecture: "arm64", program: b"\x7fELF of another", ..CONTENTS };
        let (digest_of_index, archive) = index(&[CONTENTS, other]).unwrap();
        assert_eq!(archive, index(&[CONTENTS, other]).unwrap().1);
        let files = files(&archive);
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let blob = |digest: &Value| {
            let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            json(&files[&format!("blobs/sha256/{digest}")])
        };
        let layout = json(&files["index.json"]);
        assert_eq!(layout["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(layout["manifests"][0]["digest"], digest_of_index);
        let index = blob(&layout["manifests"][0]["digest"]);
        let platforms = index["manifests"].as_array().unwrap().iter().map(|manifest| {
            let config = blob(&blob(&manifest["digest"])["config"]["digest"]);
            assert_eq!(manifest["platform"]["architecture"], config["architecture"]);
            config["architecture"].as_str().unwrap().to_owned()
        });
        assert_eq!(platforms.collect::<Vec<_>>(), ["amd64", "arm64"]);
        // An archive of one image is the same image.
        assert_eq!(self::archive(&other).unwrap().0, index["manifests"][1]["digest"]);
    }
}
