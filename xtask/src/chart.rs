//! What is made for the Helm chart from sources elsewhere: copies of the alerts and the
//! dashboard, since a chart may read no file outside of itself, and the table of its values.

use crate::command::workspace;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{fs, path::PathBuf};

const HEAD: &str = "\
# Herder

Reports every OOM kill on a node and enforces `memory.oom.group` by policy.

```console
$ kubectl apply -f deploy/base/namespace.yaml     # the namespace, with the label that it needs where Pod Security is enforced
$ helm install herder deploy/helm/herder --namespace herder-system --set image.repository=REGISTRY/herder-agent
$ helm test herder --namespace herder-system
```

The chart makes the same objects as `kubectl apply -k deploy/`, except the Namespace; a test compares them for each choice. In another namespace where Pod Security is
enforced, run `kubectl label namespace NAME pod-security.kubernetes.io/enforce=privileged`. Wrong keys and values are rejected by name. Rules are in [docs/rules.md](../../../docs/rules.md), rights in [docs/security.md](../../../docs/security.md).

## Values

`cargo xtask dashboards` makes this table from the comments of `values.yaml`.

| key | default | |
|---|---|---|
";

fn directory() -> PathBuf {
    workspace().join("deploy/helm/herder")
}

/// The files, and what is in them.
pub fn made(alerts: &str, dashboard: &str) -> Result<Vec<(PathBuf, String)>> {
    let file = directory().join("values.yaml");
    let values =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(vec![
        (directory().join("files/alerts.yaml"), alerts.to_owned()),
        (directory().join("files/herder.json"), dashboard.to_owned()),
        (directory().join("README.md"), readme(&values)?),
    ])
}

/// The table of all values: a comment that begins with `# -- ` is about the key below it.
fn readme(values: &str) -> Result<String> {
    let parsed: Value = serde_saphyr::from_str(values)?;
    let mut table = HEAD.to_owned();
    let mut parents: Vec<&str> = Vec::new();
    let mut comment: Option<String> = None;
    for line in values.lines() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(begin) = text.strip_prefix("# -- ") {
            comment = Some(begin.to_owned());
        } else if let (Some(more), Some(comment)) = (text.strip_prefix("# "), &mut comment) {
            *comment = format!("{comment} {more}");
        } else if let Some((key, _)) = text.split_once(':') {
            parents.truncate(depth);
            parents.push(key);
            if let Some(comment) = comment.take() {
                let path = parents.join(".");
                let value = parsed.pointer(&format!("/{}", parents.join("/")));
                let value = value.with_context(|| format!("values.yaml has no {path}"))?;
                table.push_str(&format!("| `{path}` | `{value}` | {comment} |\n"));
            }
        }
    }
    if comment.is_some() {
        bail!("the last comment of values.yaml is about no key");
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_with_a_comment_is_a_row() {
        let values = "a:\n  # -- One,\n  # two.\n  b: 1\n# -- List.\nc:\n  - d: 2\n";
        let rows: Vec<_> =
            readme(values).unwrap().lines().skip(HEAD.lines().count()).map(str::to_owned).collect();
        assert_eq!(rows, ["| `a.b` | `1` | One, two. |", "| `c` | `[{\"d\":2}]` | List. |"]);
    }

    /// A value that no text explains, or that the schema does not know, is one that users
    /// cannot find.
    #[test]
    fn every_value_is_explained_and_in_the_schema() {
        let text = fs::read_to_string(directory().join("values.yaml")).unwrap();
        let schema = fs::read_to_string(directory().join("values.schema.json")).unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let table = readme(&text).unwrap();
        let values: Value = serde_saphyr::from_str(&text).unwrap();
        for (key, value) in values.as_object().unwrap() {
            let known = &schema["properties"][key];
            assert!(!known.is_null(), "{key} is not in the schema");
            let below =
                known["properties"].as_object().filter(|_| known["additionalProperties"] == false);
            match (value, below) {
                (Value::Object(value), Some(below)) if key != "resources" => {
                    for inner in value.keys() {
                        assert!(below.contains_key(inner), "{key}.{inner} is not in the schema");
                        assert!(
                            table.contains(&format!("`{key}.{inner}`")),
                            "{key}.{inner} is not explained"
                        );
                    }
                }
                _ => assert!(table.contains(&format!("`{key}`")), "{key} is not explained"),
            }
        }
    }
}
