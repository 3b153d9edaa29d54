//! The rules as an object of the Prometheus operator, and promtool's opinion.

use super::{
    source::directory,
    variants::{self, Variant},
};
use crate::command::{asked, output, run, say};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Command};

pub const KUSTOMIZATION: &str = "\
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources:
  - prometheus-rule.yaml
";

const HEAD: &str = "\
# Made by `cargo xtask dashboards` from dashboards/alerts.yaml; change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: herder-agent
  namespace: herder-system
  labels:
    app.kubernetes.io/name: herder
spec:
";

/// The groups as they are written, with their comments.
pub fn groups() -> Result<String> {
    let text = fs::read_to_string(directory().join("alerts.yaml"))?;
    let (_, groups) = text.split_once("\ngroups:\n").context("alerts.yaml has no groups")?;
    Ok(format!("groups:\n{groups}"))
}

/// The PrometheusRule.
pub fn object() -> Result<String> {
    let groups = groups()?;
    let lines = groups.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    Ok(format!("{HEAD}{}", lines.collect::<String>()))
}

/// `promtool check rules`, and `test rules` with each file of tests and its variants.
pub fn promtool() -> Result<()> {
    let directory = directory();
    let mut check = Command::new("promtool");
    run(check
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .arg(directory.join("alerts.yaml")))?;
    let mut test = Command::new("promtool");
    run(test
        .args(["test", "rules"])
        .args(["alerts.yaml", "recording.yaml"].map(|name| directory.join("tests").join(name)))
        .args(written_variants()?))?;
    let version = asked(Command::new("promtool").arg("--version")).unwrap_or_default();
    say(&format!("the rules pass {}", version.lines().next().unwrap_or_default()));
    Ok(())
}

/// The alerts' tests once more in each variant. JSON is YAML too.
fn written_variants() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(directory().join("tests/alerts.yaml"))?;
    let mut tests: Value = serde_saphyr::from_str(&text).context("tests/alerts.yaml is wrong")?;
    tests["rule_files"] = json!([directory().join("alerts.yaml")]);
    let mut paths = Vec::new();
    for variant in Variant::ALL {
        let path = output()?.join(variant.file());
        fs::write(&path, variants::of(&tests, variant)?.to_string())?;
        paths.push(path);
    }
    Ok(paths)
}
