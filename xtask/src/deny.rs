//! What we depend on: licences, sources, and known vulnerabilities (RUSTSEC), by cargo-deny.

use crate::{
    command::{program, run_timed, say, workspace},
    tools,
};
use anyhow::{Result, bail};
use std::{path::PathBuf, process::Command};

/// Whether known vulnerabilities were looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// None is known.
    Checked,
    /// The database cannot be had here, which was logged.
    NoDatabase,
}

/// Fails at a licence, a source or a crate that `deny.toml` does not allow, and at an
/// advisory about a crate that we use.
pub fn check() -> Result<Advisories> {
    let deny = Deny { config: workspace().join("deny.toml"), environment: Vec::new() };
    let kinds = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    run_timed("Licences and sources", &mut deny.command(&kinds)?)?;
    deny.advisories()
}

/// The same, where a release without a database must be asked for.
pub fn check_for_release(without_advisories: bool) -> Result<()> {
    if check()? == Advisories::NoDatabase && !without_advisories {
        bail!("a release needs a check of advisories; --without-advisories makes one all the same");
    }
    Ok(())
}

struct Deny {
    config: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Deny {
    fn advisories(&self) -> Result<Advisories> {
        let fetched = self.command(&["fetch", "db"])?.output()?;
        if !fetched.status.success() {
            let text = String::from_utf8_lossy(&fetched.stderr);
            let why = text.lines().find(|line| line.contains("fatal:"));
            let why = why.unwrap_or("cargo-deny gives no reason");
            say("ADVISORIES WERE NOT CHECKED: the RUSTSEC database cannot be fetched here");
            say(&format!("  ({why})"));
            return Ok(Advisories::NoDatabase);
        }
        run_timed("Advisories", &mut self.command(&["check", "advisories"])?)?;
        Ok(Advisories::Checked)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut deny = program(tools::cargo_deny()?);
        deny.current_dir(workspace()).envs(self.environment.iter().cloned());
        deny.args(["--locked", "--log-level", "error", "--config"]).arg(&self.config);
        deny.args(arguments);
        Ok(deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{made, output, run};
    use std::fs;

    const DATABASE: &str = "https://github.com/RustSec/advisory-db";

    const ADVISORY: &str = "\
```toml
[advisory]
id = \"RUSTSEC-2020-9999\"
package = \"anyhow\"
date = \"2020-01-01\"

[versions]
patched = [\">= 99.0.0\"]
```

# Made up for a test
";

    /// With a directory in place of the public database.
    fn with_database(name: &str, advisory: Option<&str>) -> Deny {
        let scratch = output().unwrap().join(format!("deny-{name}"));
        let _ = fs::remove_dir_all(&scratch);
        let database = scratch.join("database");
        if let Some(advisory) = advisory {
            let crates = made(database.join("crates/anyhow")).unwrap();
            fs::write(crates.join("RUSTSEC-2020-9999.md"), advisory).unwrap();
            for arguments in [
                &["init", "--quiet", "--initial-branch=main"][..],
                &["add", "."],
                &["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-mx"],
            ] {
                run(program("git").current_dir(&database).args(arguments)).unwrap();
            }
        }
        let kept = made(scratch.clone()).unwrap().join("kept");
        let text = fs::read_to_string(workspace().join("deny.toml")).unwrap();
        let section = format!("[advisories]\ndb-path = {kept:?}");
        let config = scratch.join("deny.toml");
        fs::write(&config, text.replace("[advisories]", &section)).unwrap();
        let environment = vec![
            ("GIT_CONFIG_COUNT", "1".to_owned()),
            ("GIT_CONFIG_KEY_0", format!("url.{}.insteadOf", database.display())),
            ("GIT_CONFIG_VALUE_0", DATABASE.to_owned()),
        ];
        Deny { config, environment }
    }

    #[test]
    #[ignore = "downloads cargo-deny: cargo xtask check"]
    fn an_advisory_fails_and_a_missing_database_is_no_success() {
        assert!(with_database("affected", Some(ADVISORY)).advisories().is_err());
        let patched = ADVISORY.replace("99.0.0", "1.0.0");
        let harmless = with_database("patched", Some(&patched)).advisories().unwrap();
        assert_eq!(harmless, Advisories::Checked);
        let missing = with_database("missing", None).advisories().unwrap();
        assert_eq!(missing, Advisories::NoDatabase);
    }
}
