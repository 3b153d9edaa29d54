//! deb and rpm, by nfpm.

use super::VERSION;
use crate::{
    build::{self, Architecture},
    command::{made, output, program, run},
    dist::File,
    pack, tools,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fs, path::Path};

const COPYRIGHT: &str = include_str!("package/copyright");
const OVERRIDES: &str = include_str!("package/lintian-overrides");
const SCRIPTS: [(&str, &str); 3] = [
    ("postinstall", include_str!("package/postinstall.sh")),
    ("preremove", include_str!("package/preremove.sh")),
    ("postremove", include_str!("package/postremove.sh")),
];

const MAINTAINER: &str = "Herder <herder-dev@users.noreply.github.com>";

/// Writes both packages of the files that the archive for hosts has.
pub fn write(architecture: Architecture, files: &[File], folder: &Path) -> Result<()> {
    let scratch = output()?.join(format!("package-{}", architecture.name()));
    let _ = fs::remove_dir_all(&scratch);
    made(scratch.clone())?;
    let mut installed = vec![installed(
        "usr/share/doc/herder-agent/copyright",
        0o644,
        COPYRIGHT.as_bytes().to_vec(),
    )];
    installed.extend(files.iter().filter_map(place).collect::<Result<Vec<_>>>()?);
    let time = build::source().map_or_else(|| "1970-01-01T00:00:00Z".to_owned(), |from| from.time);
    for packager in ["deb", "rpm"] {
        let config = config(packager, architecture, &installed, &time, &scratch)?;
        let file = scratch.join(format!("{packager}.json"));
        fs::write(&file, config.to_string())?;
        let mut nfpm = program(tools::nfpm()?);
        nfpm.args(["package", "--packager", packager, "--config"]).arg(&file);
        run(nfpm.arg("--target").arg(folder).stdout(std::process::Stdio::null()))?;
    }
    Ok(())
}

/// Names of the two packages.
pub fn names(architecture: Architecture) -> [String; 2] {
    [
        format!("herder-agent_{VERSION}-1_{}.deb", architecture.name()),
        format!("herder-agent-{VERSION}-1.{}.rpm", architecture.machine()),
    ]
}

fn installed(path: &str, mode: u32, bytes: Vec<u8>) -> File {
    File { name: path.to_owned(), mode, bytes }
}

/// Where a file of the archive is installed.
fn place(file: &File) -> Option<Result<File>> {
    let text = || String::from_utf8_lossy(&file.bytes).into_owned();
    let (directory, name) = file.name.rsplit_once('/').unwrap_or(("", &file.name));
    let path = match (directory, name) {
        ("", "herder-agent") => "usr/bin/herder-agent".to_owned(),
        ("", "herder.yaml") => "etc/herder/herder.yaml".to_owned(),
        ("", "herder-agent.service") => {
            // Without its head, which says how to install it by hand.
            let unit = text();
            let unit = unit.get(unit.find("[Unit]")?..)?.replace("/usr/local/bin/", "/usr/bin/");
            let path = "usr/lib/systemd/system/herder-agent.service";
            return Some(Ok(installed(path, 0o644, unit.into_bytes())));
        }
        ("", "protect-init.conf") => {
            "usr/share/doc/herder-agent/examples/protect-init.conf".to_owned()
        }
        ("man", page) => {
            let packed = pack::gzip(&file.bytes);
            let path = format!("usr/share/man/man1/{page}.gz");
            return Some(packed.map(|bytes| installed(&path, 0o644, bytes)));
        }
        ("completions", name) if name.ends_with(".bash") => {
            "usr/share/bash-completion/completions/herder-agent".to_owned()
        }
        ("completions", name) if name.ends_with(".fish") => {
            format!("usr/share/fish/vendor_completions.d/{name}")
        }
        ("completions", name) => format!("usr/share/zsh/vendor-completions/{name}"),
        // The copyright names it.
        _ => return None,
    };
    Some(Ok(installed(&path, file.mode, file.bytes.clone())))
}

/// nfpm's configuration (https://nfpm.goreleaser.com/configuration), with its files beside it.
fn config(
    packager: &str,
    architecture: Architecture,
    files: &[File],
    time: &str,
    scratch: &Path,
) -> Result<Value> {
    let directory = made(scratch.join(packager))?;
    let kept = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = directory.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let mut contents = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let kind = if file.name.starts_with("etc/") { "config|noreplace" } else { "" };
        contents.push(json!({
            "src": kept(&number.to_string(), &file.bytes)?,
            "dst": format!("/{}", file.name),
            "type": kind,
            "file_info": { "mode": file.mode, "mtime": time },
        }));
    }
    if packager == "deb" {
        contents.push(json!({
            "src": kept("overrides", OVERRIDES.as_bytes())?,
            "dst": "/usr/share/lintian/overrides/herder-agent",
            "file_info": { "mode": 0o644, "mtime": time },
        }));
    }
    let mut scripts = json!({});
    for (name, text) in SCRIPTS {
        scripts[name] = kept(name, text.as_bytes())?.into();
    }
    let change = format!("https://github.com/herder-dev/herder/blob/v{VERSION}/CHANGELOG.md");
    let changelog = json!([{
        "semver": VERSION, "date": time, "packager": MAINTAINER,
        "deb": { "urgency": "medium", "distributions": ["unstable"] }, "changes": [{ "note": change }],
    }]);
    Ok(json!({
        "name": "herder-agent",
        "arch": architecture.name(),
        "platform": "linux",
        "version": VERSION,
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "homepage": "https://github.com/herder-dev/herder",
        "license": env!("CARGO_PKG_LICENSE"),
        "description": "reports OOM kills and enforces memory.oom.group\n\
            Herder names each process that the kernel kills for lack of memory, with its\n\
            container, and keeps memory.oom.group at the value that a rule wants.",
        "mtime": time,
        "changelog": kept("changelog.yaml", changelog.to_string().as_bytes())?,
        "contents": contents,
        "scripts": scripts,
        "deb": { "compression": "xz" },
        "rpm": { "compression": "xz", "buildhost": "localhost", "group": "System/Monitoring" },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, process::Command};

    fn placed(name: &str, text: &str) -> Option<File> {
        place(&File { name: name.into(), mode: 0o644, bytes: text.as_bytes().to_vec() })
            .map(Result::unwrap)
    }

    /// The unit starts the program of the package, not one that stands elsewhere.
    #[test]
    fn the_unit_starts_the_packages_program() {
        let unit = crate::command::workspace().join("deploy/systemd/herder-agent.service");
        let unit = placed("herder-agent.service", &fs::read_to_string(unit).unwrap()).unwrap();
        let text = String::from_utf8(unit.bytes).unwrap();
        assert!(text.starts_with("[Unit]") && text.contains("\nExecStart=/usr/bin/herder-agent "));
        assert!(!text.contains("/usr/local"));
    }

    #[test]
    fn every_file_has_its_place() {
        for (from, to) in [
            ("herder.yaml", "etc/herder/herder.yaml"),
            ("man/herder-agent.1", "usr/share/man/man1/herder-agent.1.gz"),
            ("completions/_herder-agent", "usr/share/zsh/vendor-completions/_herder-agent"),
        ] {
            assert_eq!(placed(from, "x").unwrap().name, to);
        }
        assert!(placed("LICENSE", "x").is_none());
    }

    /// systemd refuses a masked unit, and a new version may not start. dpkg would take either for
    /// a package that is installed by half.
    #[test]
    fn no_script_fails_where_systemd_does() {
        let scratch = std::env::temp_dir().join(format!("herder-scripts-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        let systemctl = scratch.join("systemctl");
        fs::write(&systemctl, "#!/bin/sh\necho called >> \"$0.log\"\nexit 1\n").unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", scratch.display(), std::env::var("PATH").unwrap());
        for (name, text) in SCRIPTS {
            let text = text.replace("/run/systemd/system", &scratch.display().to_string());
            let mut script = Command::new("sh");
            let done = script.args(["-c", &text, name, "remove"]).env("PATH", &path).status();
            assert!(done.unwrap().success(), "{name}");
        }
        let calls = fs::read_to_string(scratch.join("systemctl.log")).unwrap();
        assert_eq!(calls.lines().count(), 5, "each script asked systemd");
        fs::remove_dir_all(&scratch).unwrap();
    }

    /// lintian knows an exception by its line.
    #[test]
    fn exceptions_name_the_lines_that_they_are_for() {
        let scripts = [("postinst", SCRIPTS[0].1), ("prerm", SCRIPTS[1].1)];
        for (name, text) in scripts {
            let mut calls = text.lines().enumerate().filter(|(_, line)| {
                line.trim().starts_with("systemctl ") && !line.contains("daemon-reload")
            });
            let (at, _) = calls.next().unwrap();
            let exception = format!("maintainer-script-calls-systemctl [{name}:{}]", at + 1);
            assert!(OVERRIDES.contains(&exception) && calls.next().is_none(), "{exception}");
        }
    }
}
