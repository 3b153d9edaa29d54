//! Debian's packages: installing programs, and downloading kernels of other
//! suites without enabling those on the machine.

use crate::command::{alone_in, asked, cache, can_install, made, run, run_timed, say};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Makes sure that a program is there, by installing the package that has it.
pub fn need(program: &str, package: &str) -> Result<()> {
    let found = asked(Command::new("sh").args(["-c", &format!("command -v {program}")]));
    if found.is_some() {
        return Ok(());
    }
    if !can_install() {
        bail!(
            "{program} is missing; as root on Debian: apt-get install --no-install-recommends {package}"
        );
    }
    install(&[package])
}

/// Installs packages of the machine's own suites.
pub fn install(packages: &[&str]) -> Result<()> {
    // apt waits for another that installs, but not for one that reads lists.
    let _alone = alone_in(&cache()?)?;
    let mut update = Command::new("apt-get");
    run_timed("Reading Debian's package lists", update.args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]);
    // A fresh machine may be installing its updates.
    install.args(["-o", "DPkg::Lock::Timeout=600"]);
    run_timed(&format!("Installing {}", packages.join(" ")), install.args(packages))
}

/// One suite's packages, read into a state of its own below `state`.
pub struct Suite {
    options: Vec<String>,
    name: &'static str,
    /// Only one at a time uses the state.
    _alone: File,
}

impl Suite {
    /// Reads the package list of a suite from the mirror that the machine uses.
    pub fn open(name: &'static str, state: &Path) -> Result<Self> {
        Self::open_for(name, "amd64", state)
    }

    /// The same for another architecture.
    pub fn open_for(name: &'static str, architecture: &str, state: &Path) -> Result<Self> {
        let directory = match architecture {
            "amd64" => name.to_owned(),
            other => format!("{name}-{other}"),
        };
        let state = made(state.join(directory))?;
        let alone = alone_in(&state)?;
        made(state.join("lists/partial"))?;
        made(state.join("archives/partial"))?;
        let source = state.join("sources.list");
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let mirror = mirror(name.ends_with("-security"))?;
        fs::write(&source, format!("deb [signed-by={keyring}] {mirror} {name} main\n"))
            .with_context(|| format!("cannot write {}", source.display()))?;
        let status = state.join("status");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        let options = vec![
            path("Dir::Etc::sourcelist", &source),
            "Dir::Etc::sourceparts=-".into(),
            path("Dir::State", &state),
            path("Dir::State::status", &status),
            path("Dir::State::lists", &state.join("lists")),
            path("Dir::Cache", &state),
            path("Dir::Cache::archives", &state.join("archives")),
            "APT::Sandbox::User=root".into(),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            // The lists of archived suites are no longer signed anew.
            "Acquire::Check-Valid-Until=false".into(),
            "Acquire::Languages=none".into(),
        ];
        let suite = Suite { options, name, _alone: alone };
        run_timed(
            &format!("Reading the package list of {name}"),
            suite.apt("apt-get").args(["update", "-qq"]),
        )?;
        Ok(suite)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// The newest package whose name begins and ends so, by its version number.
    pub fn newest(&self, begins: &str, ends: &str) -> Result<String> {
        let names = asked(self.apt("apt-cache").args(["pkgnames", begins]))
            .with_context(|| format!("apt-cache cannot read the list of {}", self.name))?;
        let fits = |name: &&str| name.starts_with(begins) && name.ends_with(ends);
        let newest = names.lines().filter(fits).max_by_key(|name| numbers(name));
        newest
            .map(str::to_owned)
            .with_context(|| format!("{} has no package {begins}*{ends}", self.name))
    }

    /// Downloads a package into a directory, checked against the signed list.
    /// `NAME=VERSION` asks for that version.
    pub fn download(&self, package: &str, directory: &Path) -> Result<PathBuf> {
        say(&format!("Downloading {package} from {} …", self.name));
        run(self.apt("apt-get").current_dir(directory).args(["download", "-qq", package]))?;
        let name = package.split('=').next().unwrap_or(package);
        let prefix = format!("{name}_");
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                return Ok(path);
            }
        }
        bail!("apt-get left no {prefix}*.deb in {}", directory.display())
    }

    /// Downloads packages and all that they depend on into a directory, as apt
    /// would for a machine on which nothing is installed; checked as above.
    pub fn download_with_dependencies(
        &self,
        packages: &[&str],
        directory: &Path,
    ) -> Result<Vec<PathBuf>> {
        made(directory.join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", directory.display());
        let mut install = self.apt("apt-get");
        install.args(["-o", &archives, "install", "-y", "-qq", "--download-only"]);
        run_timed(
            &format!("Downloading {} from {}", packages.join(", "), self.name),
            install.arg("--no-install-recommends").args(packages),
        )?;
        let found = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(found.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
    }
}

/// The numbers in a name, by which versions are ordered.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Where the machine gets its own packages, or its own security updates.
fn mirror(security: bool) -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.filter_map(|part| Some(part.ok()?.path())));
    }
    files.sort();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let found = texts.flat_map(|text| entries(&text)).find(|(uri, suites)| {
        let debian = uri.trim_end_matches('/').ends_with("debian-security") == security
            && uri.contains("debian");
        debian && suites.iter().any(|suite| suite.ends_with("-security")) == security
    });
    found.map(|(uri, _)| uri).context(if security {
        "no source of Debian's security updates in /etc/apt"
    } else {
        "no source of Debian's packages in /etc/apt"
    })
}

/// The address and suites of each source, in either of apt's formats.
fn entries(text: &str) -> Vec<(String, Vec<String>)> {
    let lines = text.lines().filter(|line| line.starts_with("deb "));
    let one_line = lines.filter_map(|line| {
        let mut words =
            line.split_whitespace().skip(1).skip_while(|word| word.contains(['[', ']', '=']));
        Some((words.next()?.to_owned(), vec![words.next()?.to_owned()]))
    });
    let stanzas = text.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
        let suites = field("Suites:")?.split_whitespace().map(str::to_owned).collect();
        Some((field("URIs:")?.split_whitespace().next()?.to_owned(), suites))
    });
    one_line.chain(stanzas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let found = entries(
            "# x\ndeb [arch=amd64] http://m/debian sid main\ndeb-src http://m/debian sid main\n",
        );
        assert_eq!(found, [("http://m/debian".into(), vec!["sid".into()])]);
        let found = entries(
            "Types: deb\nURIs: http://m/debian\nSuites: a a-updates\n\nTypes: deb\nURIs: http://s\nSuites: a-security\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], ("http://m/debian".into(), vec!["a".into(), "a-updates".into()]));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(
            numbers("linux-image-6.12.100+deb12-cloud")
                > numbers("linux-image-6.12.99+deb12-cloud")
        );
        assert!(numbers("linux-image-5.10.0-32-cloud") > numbers("linux-image-5.10.0-9-cloud"));
    }
}
