//! What `CHANGELOG.md` says of a version.

use crate::command::workspace;
use anyhow::{Context, Result};
use std::fs;

/// The text below the version's heading.
pub fn of(version: &str) -> Result<String> {
    let file = workspace().join("CHANGELOG.md");
    let text = fs::read_to_string(&file).context("cannot read CHANGELOG.md")?;
    section(&text, version).with_context(|| format!("CHANGELOG.md has nothing about {version}"))
}

fn section(text: &str, version: &str) -> Option<String> {
    let begin = format!("## [{version}]");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&begin)).skip(1);
    let lines: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("## ")).collect();
    let section = lines.join("\n").trim().to_owned();
    (!section.is_empty()).then_some(section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::VERSION;
    use std::path::{Path, PathBuf};

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "# Log\n\n## [0.2.0] - x\n\n### Added\n\n- One.\n\n## [0.1.0]\n\n- Two.\n";
        assert_eq!(section(text, "0.2.0").unwrap(), "### Added\n\n- One.");
        assert_eq!(section(text, "0.1.0").unwrap(), "- Two.");
        assert_eq!(section(text, "0.3.0"), None);
    }

    #[test]
    fn the_changelog_has_this_version_first() {
        of(VERSION).unwrap();
        let text = fs::read_to_string(workspace().join("CHANGELOG.md")).unwrap();
        let mut versions = text.lines().filter_map(|line| line.strip_prefix("## ["));
        let first = versions.find(|line| !line.starts_with("Unreleased")).unwrap();
        assert!(first.starts_with(&format!("{VERSION}]")), "{first} is not {VERSION}");
    }

    /// Files that may name a version of Herder's: all that users read or apply.
    fn named(place: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(place).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                named(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    /// The version has one source, Cargo.toml; whatever else names it has to agree.
    #[test]
    fn every_file_names_this_version() {
        let mut files = vec![workspace().join("README.md"), workspace().join("CONTRIBUTING.md")];
        for place in ["deploy", "docs"] {
            named(&workspace().join(place), &mut files);
        }
        let mut seen = 0;
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            for line in text.lines() {
                for other in versions(line) {
                    assert_eq!(other, VERSION, "{}: {line}", file.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 10, "{seen} places name the version");
    }

    /// The versions of Herder's in a line.
    fn versions(line: &str) -> Vec<String> {
        let number = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
            let number = text.get(..end).unwrap_or_default().trim_end_matches('.').to_owned();
            (number.split('.').count() == 3).then_some(number)
        };
        let own = ["herder-agent", "herder-hog", "herder-kustomize", "kubectl-herder", "herder"];
        let named = own.iter().flat_map(|name| {
            ["-", ":", "_"].iter().flat_map(move |between| {
                let begin = format!("{name}{between}");
                line.split(&begin).skip(1).filter_map(number).collect::<Vec<_>>()
            })
        });
        let keys = ["version: ", "appVersion: ", "newTag: "].iter();
        let keys = keys.filter_map(|key| number(line.trim_start().strip_prefix(key)?));
        named.chain(keys).collect()
    }

    #[test]
    fn versions_are_found_in_each_form() {
        for line in [
            "    newTag: 1.2.3",
            "appVersion: 1.2.3",
            "target/herder/herder-agent-1.2.3-amd64.tar",
            "image: localhost/herder-hog:1.2.3",
            "helm install herder herder-1.2.3.tgz",
            "dpkg -i herder-agent_1.2.3_amd64.deb",
        ] {
            assert_eq!(versions(line), ["1.2.3"], "{line}");
        }
        assert!(versions("containerd 1.7.2, herder-agent-ebpf").is_empty());
    }
}
