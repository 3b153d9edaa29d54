//! Renders `deploy/` as a user does, and checks what comes out: against the
//! schemas of the API servers that it has to work on, and for what it grants.

pub(crate) mod agreement;
mod chart;
mod grants;
mod reach;
mod schemas;

use crate::{
    command::{say, workspace},
    render::{self, Kubectl},
};
use anyhow::{Context, Result, bail, ensure};
use schemas::Schemas;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Instant,
};

/// Components that are not rendered together with the others: both give the
/// agent the bundles of a runtime, and a node has one.
const ALTERNATIVE: &str = "bundles-crio";

/// What changes the same objects, in the order that `deploy/kustomization.yaml` has.
const COMBINED: [[&str; 4]; 3] = [
    ["openshift", "busy-nodes", "kernel-5.10", "rootless"],
    ["no-ebpf", "busy-nodes", "kernel-5.10", "rootless"],
    ["openshift", "no-ebpf", "busy-nodes", "rootless"],
];

/// What stands for components in the table of what is granted.
const EXAMPLE: [&str; 1] = ["an example"];

/// How a cluster adds its own.
const OVERLAY: &str = "deploy/examples/overlay";

/// Where the agents are.
const NAMESPACE: &str = "herder-system";

/// Kinds that have no namespace.
const CLUSTER_WIDE: [&str; 4] =
    ["Namespace", "ClusterRole", "ClusterRoleBinding", "SecurityContextConstraints"];

/// A name, and the objects that are applied under it.
struct Rendered {
    name: String,
    components: Vec<String>,
    objects: Vec<Value>,
}

/// Renders and checks the base, every component, all of them together, and the
/// examples.
#[test]
#[ignore = "downloads kubectl and schemas: cargo xtask manifests"]
fn deploy_is_valid() -> Result<()> {
    let began = Instant::now();
    let schemas = Schemas::get()?;
    let kubectl = Kubectl::get()?;
    let all = render_all(&kubectl)?;
    let charted = chart::check(&kubectl)?;
    let rendered = all.iter().flat_map(|rendered| &rendered.objects);
    let objects: Vec<&Value> = rendered.chain(&charted).collect();
    // The renderings have most objects in common.
    let distinct: BTreeMap<String, &Value> =
        objects.iter().map(|object| (object.to_string(), *object)).collect();
    let distinct: Vec<&Value> = distinct.into_values().collect();
    for (object, fault) in distinct.iter().zip(schemas.faults(&distinct)?) {
        if let Some(fault) = fault {
            bail!("{} {} is not valid: {fault}", object["kind"], object["metadata"]["name"]);
        }
    }
    refuses_mistakes(&schemas, &distinct)?;
    for rendered in &all {
        placed(&rendered.objects).with_context(|| rendered.name.clone())?;
        let granted = grants::granted(&rendered.objects);
        compare(&granted, &grants::expected(&rendered.components)?)
            .with_context(|| format!("{} grants other rights", rendered.name))?;
        let fits = match rendered.name.as_str() {
            OVERLAY => agreement::overlay(&rendered.objects),
            _ if rendered.components == EXAMPLE => Ok(()),
            _ => agreement::agent(&rendered.objects, agreement::AGENT),
        };
        fits.with_context(|| format!("{} does not fit the agent", rendered.name))?;
    }
    say(&format!(
        "deploy/: {} renderings, {} different objects valid for {} ({:.1} s)",
        all.len(),
        distinct.len(),
        schemas.versions(),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn render_all(kubectl: &Kubectl) -> Result<Vec<Rendered>> {
    let components = components(&workspace().join("deploy/components"))?;
    let together = components.iter().filter(|name| *name != ALTERNATIVE).cloned().collect();
    let mut sets = vec![("deploy/".to_owned(), Vec::new())];
    sets.extend(components.into_iter().map(|name| (format!("component {name}"), vec![name])));
    sets.push(("all components".to_owned(), together));
    for combined in COMBINED {
        sets.push((combined.join(", "), combined.map(str::to_owned).to_vec()));
    }
    let mut all = Vec::new();
    for (name, components) in sets {
        let objects = kubectl.render(&components).with_context(|| format!("rendering {name}"))?;
        all.push(Rendered { name, components, objects });
    }
    let overlay = workspace().join(OVERLAY);
    let objects = kubectl.kustomize(&overlay).with_context(|| format!("rendering {OVERLAY}"))?;
    let components = components_of(&overlay)?;
    all.push(Rendered { name: OVERLAY.to_owned(), components, objects });
    for (name, text) in yaml_files(&workspace().join("deploy/examples"))? {
        let objects = render::objects(&text).with_context(|| format!("reading {name}"))?;
        all.push(Rendered { name, components: EXAMPLE.map(Into::into).into(), objects });
    }
    Ok(all)
}

/// The names of the directories below `deploy/components`.
fn components(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let path = entry?.path();
        // The rules are generated from the dashboards' alerts.
        if path.ends_with("prometheus-rule") && !path.join("prometheus-rule.yaml").exists() {
            say("deploy/components/prometheus-rule has no rules yet, and is not checked");
            continue;
        }
        names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The components that a kustomization lists, by their names.
fn components_of(directory: &Path) -> Result<Vec<String>> {
    let file = directory.join("kustomization.yaml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let all = render::objects(&text)?;
    let listed = all.iter().filter_map(|one| one["components"].as_array()).flatten();
    let names = listed.filter_map(Value::as_str).filter_map(|path| path.rsplit('/').next());
    Ok(names.map(str::to_owned).collect())
}

/// Whether each object is in a namespace of its own choice, or cluster-wide. Without one
/// it would land in whichever is current.
fn placed(objects: &[Value]) -> Result<()> {
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let (name, namespace) = (&object["metadata"]["name"], &object["metadata"]["namespace"]);
        let is_cluster_wide = CLUSTER_WIDE.contains(&kind);
        ensure!(
            namespace.is_null() == is_cluster_wide,
            "{kind} {name} is in namespace {namespace}"
        );
        for subject in object["subjects"].as_array().into_iter().flatten() {
            let where_it_is = &subject["namespace"];
            ensure!(*where_it_is == NAMESPACE, "{kind} {name} is for {subject}");
        }
    }
    Ok(())
}

/// Name and text of each YAML file of a directory.
fn yaml_files(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    Ok(files)
}

fn compare(granted: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<()> {
    let lines = |of: &BTreeSet<String>, without: &BTreeSet<String>, sign: &str| {
        of.difference(without).map(|line| format!("\n  {sign} {line}")).collect::<String>()
    };
    let difference = lines(granted, expected, "+") + &lines(expected, granted, "-");
    ensure!(difference.is_empty(), "+ is granted, - was expected:{difference}");
    Ok(())
}

/// Whether mistakes like those that people make are found at all: a check that
/// passes whatever it is given would pass these too.
fn refuses_mistakes(schemas: &Schemas, objects: &[&Value]) -> Result<()> {
    let mistakes = [
        ("DaemonSet", "/spec/template/spec/hostPid", json!(true)),
        ("DaemonSet", "/spec/template/spec/containers/0/livenessProbe/httpGet/pfad", json!("/")),
        ("DaemonSet", "/spec/template/spec/terminationGracePeriodSeconds", json!("soon")),
        ("ConfigMap", "/data/herder.yaml", json!({"rules": []})),
        ("NetworkPolicy", "/spec/ingres", json!([])),
        ("Deployment", "/spec/replicas", json!("two")),
        ("PodMonitor", "/spec/podMetricsEndpoints/0/honourLabels", json!(true)),
        ("SecurityContextConstraints", "/allowHostPid", json!(false)),
        ("SecurityContextConstraints", "/runAsUser/uid", json!("root")),
    ];
    let mut mistaken = Vec::new();
    for (kind, pointer, value) in &mistakes {
        let object = objects.iter().find(|object| object["kind"] == *kind);
        let mut object = (*object.with_context(|| format!("no {kind} was rendered"))?).clone();
        let (parent, key) = pointer.rsplit_once('/').context("a pointer has a slash")?;
        let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.with_context(|| format!("{kind} has no {pointer}"))?;
        parent.insert(key.into(), value.clone());
        mistaken.push(object);
    }
    let faults = schemas.faults(&mistaken.iter().collect::<Vec<_>>())?;
    for ((kind, pointer, _), fault) in mistakes.iter().zip(faults) {
        ensure!(fault.is_some(), "a {kind} with a wrong {pointer} passes: nothing is checked");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of the base, without what only kustomize changes in them.
    fn base() -> Vec<Value> {
        let files = yaml_files(&workspace().join("deploy/base")).unwrap();
        let objects = files.iter().flat_map(|(_, text)| render::objects(text).unwrap());
        objects.filter(|object| object["kind"] != "Kustomization").collect()
    }

    /// The base gets its namespace from its kustomization, what components add has to say
    /// its own.
    #[test]
    fn what_components_add_has_a_namespace_or_is_cluster_wide() {
        let mut added = 0;
        for component in components(&workspace().join("deploy/components")).unwrap() {
            let directory = workspace().join("deploy/components").join(&component);
            for (name, text) in yaml_files(&directory).unwrap() {
                let objects = render::objects(&text).unwrap();
                if objects[0]["kind"] != "Component" {
                    placed(&objects).with_context(|| name.clone()).unwrap();
                    let elsewhere = objects.iter().find(|object| {
                        let namespace = &object["metadata"]["namespace"];
                        !namespace.is_null() && namespace != NAMESPACE
                    });
                    assert_eq!(elsewhere, None, "{name}");
                    added += objects.len();
                }
            }
        }
        assert!(added > 5, "only {added} objects were looked at");
    }

    #[test]
    fn an_object_without_its_namespace_is_seen() {
        let of = |kind: &str, namespace: Value| {
            placed(&[json!({"kind": kind, "metadata": {"name": "x", "namespace": namespace}})])
        };
        assert!(of("PrometheusRule", Value::Null).is_err());
        assert!(of("PrometheusRule", json!(NAMESPACE)).is_ok());
        assert!(of("ClusterRole", Value::Null).is_ok());
        assert!(of("ClusterRole", json!(NAMESPACE)).is_err());
        let binding = json!({
            "kind": "ClusterRoleBinding", "metadata": {"name": "x"},
            "subjects": [{"kind": "ServiceAccount", "name": "x"}]
        });
        assert!(placed(&[binding]).is_err());
    }

    /// Without kubectl: what it lists is there, and its rules are rules.
    #[test]
    fn the_overlay_names_what_is_there() {
        let overlay = workspace().join(OVERLAY);
        let names = components_of(&overlay).unwrap();
        let known = components(&workspace().join("deploy/components")).unwrap();
        assert!(!names.is_empty() && names.iter().all(|name| known.contains(name)), "{names:?}");
        agreement::rules_of_the_overlay(&overlay.join("herder.yaml")).unwrap();
    }

    #[test]
    fn the_base_grants_what_the_table_says() {
        compare(&grants::granted(&base()), &grants::expected(&[]).unwrap()).unwrap();
    }

    #[test]
    fn the_base_fits_the_agent() {
        // The name is what kustomize replaces.
        agreement::agent(&base(), "herder-agent").unwrap();
    }

    #[test]
    fn what_does_not_fit_the_agent_is_seen() {
        let table = [
            ("DaemonSet", "/spec/template/spec/containers/0/args/1", json!("--cubernetes")),
            ("DaemonSet", "/spec/template/spec/containers/0/env/1/name", json!("HERDER_CONFIGS")),
            ("DaemonSet", "/spec/template/spec/containers/0/env/2/value", json!("/host/cgroups")),
            ("DaemonSet", "/spec/template/spec/containers/0/ports/0/containerPort", json!(9468)),
            (
                "DaemonSet",
                "/spec/template/spec/containers/0/livenessProbe/failureThreshold",
                json!(3),
            ),
            (
                "DaemonSet",
                "/spec/template/spec/containers/0/livenessProbe/timeoutSeconds",
                json!(1),
            ),
            (
                "DaemonSet",
                "/spec/template/spec/containers/0/livenessProbe/httpGet/path",
                json!("/readyz"),
            ),
            ("DaemonSet", "/spec/template/spec/volumes/2/name", json!("other")),
            ("ConfigMap", "/data/herder.yaml", json!("rulez: []")),
            ("ConfigMap", "/data/herder.yaml", json!("rules: []")),
        ];
        for (kind, pointer, value) in table {
            let mut objects = base();
            let object = objects.iter_mut().find(|object| object["kind"] == kind).unwrap();
            *object.pointer_mut(pointer).unwrap() = value;
            assert!(agreement::agent(&objects, "herder-agent").is_err(), "{pointer}");
        }
    }

    #[test]
    fn the_examples_are_steered_by_the_shipped_rules() {
        let base = base();
        let config_map = base.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let files = yaml_files(&workspace().join("deploy/examples")).unwrap();
        assert_eq!(files.len(), 2);
        for (name, text) in files {
            let objects = render::objects(&text).unwrap();
            let [deployment] = &objects[..] else { panic!("{name}: one object per file") };
            agreement::example(deployment, config_map).unwrap();
            let mut elsewhere = deployment.clone();
            elsewhere["metadata"]["namespace"] = json!("kube-system");
            assert!(agreement::example(&elsewhere, config_map).is_err());
        }
    }

    #[test]
    fn what_loosens_the_base_is_seen() {
        let table = [
            ("/spec/template/spec/hostPID", json!(true)),
            ("/spec/template/spec/hostNetwork", json!(true)),
            ("/spec/template/spec/shareProcessNamespace", json!(true)),
            ("/spec/template/spec/securityContext", json!({"runAsUser": 0})),
            ("/spec/template/spec/initContainers", json!([{"name": "x"}])),
            ("/spec/template/spec/containers/0/securityContext/privileged", json!(true)),
            ("/spec/template/spec/containers/0/securityContext/procMount", json!("Unmasked")),
            ("/spec/template/spec/containers/0/securityContext/capabilities/add/2", json!("X")),
            ("/spec/template/spec/containers/0/securityContext/seccompProfile/type", json!("X")),
            ("/spec/template/spec/containers/0/ports/0/hostPort", json!(9469)),
            ("/spec/template/spec/containers/0/envFrom", json!([{"secretRef": {"name": "x"}}])),
            ("/spec/template/spec/volumes/1/hostPath/path", json!("/sys")),
            ("/spec/template/spec/volumes/2/emptyDir/medium", json!("Memory")),
            ("/spec/template/spec/volumes/3", json!({"name": "x", "secret": {}})),
        ];
        for (pointer, value) in table {
            let mut objects = base();
            let daemon_set =
                objects.iter_mut().find(|object| object["kind"] == "DaemonSet").unwrap();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match daemon_set.pointer_mut(parent) {
                Some(Value::Object(parent)) => drop(parent.insert(key.into(), value)),
                Some(Value::Array(parent)) => parent.push(value),
                other => panic!("{pointer}: {other:?}"),
            }
            let changed = grants::granted(&objects);
            assert_ne!(changed, grants::expected(&[]).unwrap(), "{pointer}");
        }
    }
}
