//! Grafana's own schema: the types of npm's `@grafana/schema`, against which the
//! TypeScript compiler checks the dashboard.
//!
//! Needs npm, which is no package that CI should install for this alone (some
//! hundred packages on Debian); where it is missing that is said.

use super::source::directory;
use crate::command::{asked, cache, made, output, run_timed, say};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fmt::Write, fs, process::Command};

/// The packages that the check is known to work with.
const PACKAGES: [&str; 2] = ["@grafana/schema@13.2.3", "typescript@5.9.3"];

/// Enums may be written as their values, which is what JSON has.
const HEAD: &str = r#"
import type { Dashboard, AnnotationQuery } from 'schema/dist/types/raw/dashboard/x/types.gen';
import type { Options as Stat } from 'schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type { Options as Series, FieldConfig as SeriesField } from 'schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type { Options as Heatmap } from 'schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen';
import type { Options as Table } from 'schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
type Plain<T> = T extends string ? `${T}`
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : number)
  : T extends Array<infer U> ? Array<Plain<U>>
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
// The raw schema does not know what Prometheus's own annotation queries have.
type Annotation = AnnotationQuery & { expr: string; titleFormat: string };
type Checked = Omit<Dashboard, 'annotations'> & { annotations: { list: Annotation[] } };
"#;

pub fn check() -> Result<()> {
    if asked(Command::new("npm").arg("--version")).is_none() {
        say("npm is not installed: herder.json is not checked against Grafana's schema");
        return Ok(());
    }
    let modules = made(cache()?.join("grafana-schema"))?;
    let compiler = modules.join("node_modules/typescript/bin/tsc");
    if !compiler.exists() {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ]);
        run_timed("Installing Grafana's schema", npm.arg(&modules).args(PACKAGES))?;
    }
    let text = fs::read_to_string(directory().join("herder.json"))?;
    let project = made(output()?.join("grafana-schema"))?;
    let program = project.join("herder.ts");
    fs::write(&program, typescript(&serde_json::from_str(&text)?)?)?;
    let scope = modules.join("node_modules");
    let config = serde_json::json!({
        "compilerOptions": {
            "strict": true, "noEmit": true, "skipLibCheck": true, "module": "esnext",
            "moduleResolution": "bundler", "types": [], "target": "esnext",
            "paths": {
                "schema/*": [scope.join("@grafana/schema/*")],
                "@grafana/schema": [scope.join("@grafana/schema/dist/types/index.d.ts")]
            }
        },
        "files": ["herder.ts"]
    });
    fs::write(project.join("tsconfig.json"), config.to_string())?;
    run_timed(
        "Checking herder.json against Grafana's schema",
        Command::new("node").arg(compiler).arg("--project").arg(project.join("tsconfig.json")),
    )
}

/// A program that is well typed if the dashboard is: the whole, and what the
/// schema leaves open in it, which is each panel's options. It has no type for
/// Prometheus's queries; those are run instead.
fn typescript(dashboard: &Value) -> Result<String> {
    let mut program = HEAD.to_owned();
    writeln!(program, "export const dashboard: Plain<Checked> = {dashboard:#};")?;
    let panels = dashboard["panels"].as_array().context("herder.json has no panels")?;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let (kind, field) = match panel["type"].as_str() {
            Some("stat") => ("Stat", None),
            Some("timeseries") => ("Series", Some("SeriesField")),
            Some("heatmap") => ("Heatmap", None),
            Some("table") => ("Table", None),
            other => anyhow::bail!("no schema is known for panels of type {other:?}"),
        };
        let id = &panel["id"];
        writeln!(program, "export const o{id}: Plain<{kind}> = {:#};", panel["options"])?;
        if let Some(field) = field {
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            writeln!(program, "export const f{id}: Plain<{field}> = {custom:#};")?;
        }
    }
    Ok(program)
}
