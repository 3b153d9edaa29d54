//! Whether the manifests agree with the programs that they start: flags,
//! variables, the port, the shipped rules, the images' names and versions.

use super::reach;
use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, Parser};
use glob::Pattern;
use herder_agent::{
    AccessFiles, PORT,
    cli::args::{Cli, Task},
};
use herder_model::rules::parse::{Config, OomGroup, Selects};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The images that `cargo xtask image` and `cargo xtask hog-image` make.
pub const AGENT: &str = concat!("localhost/herder-agent:", env!("CARGO_PKG_VERSION"));
const HOG: &str = concat!("localhost/herder-hog:", env!("CARGO_PKG_VERSION"));
/// The challenge's own.
const CHALLENGE: &str = "ghcr.io/iximiuz/labs/resource-hog/herder:v1.0.0";

/// Checks the agent's objects; `image` is what the DaemonSet names.
pub fn agent(objects: &[Value], image: &str) -> Result<()> {
    let find = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("no {kind}"))
    };
    rules(find("ConfigMap")?)?;
    if let Ok(secret) = find("Secret") {
        let text = secret.pointer("/stringData/web.yaml").and_then(Value::as_str);
        web_config(text.context("the Secret has no web.yaml")?)?;
    }
    if let Ok(policy) = find("NetworkPolicy") {
        reach::by_pods(policy)?;
    }
    let pod = &find("DaemonSet")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    ensure!(container["image"] == image, "the image is {}, not {image}", container["image"]);

    let args = container["args"].as_array().context("no args")?;
    let args = args.iter().filter_map(Value::as_str);
    let cli = Cli::try_parse_from(["herder-agent"].into_iter().chain(args))?;
    let Task::Run(run) = cli.task else { bail!("the DaemonSet does not `run`") };
    let port = container.pointer("/ports/0/containerPort").and_then(Value::as_u64);
    ensure!(run.port.listen.is_empty(), "the DaemonSet chooses addresses");
    ensure!(port == Some(PORT.into()), "the agent does not listen at {port:?}");

    liveness(container)?;

    let command = Cli::command();
    // Some are for the commands that are run in the container, to query the agent there.
    let run = command.find_subcommand("run").context("no subcommand run")?;
    let kills = command.find_subcommand("kills").context("no subcommand kills")?;
    let flags = run.get_arguments().chain(kills.get_arguments());
    let known: Vec<_> = flags.filter_map(|flag| flag.get_env()?.to_str()).collect();
    let mounts = container["volumeMounts"].as_array().context("no mounts")?;
    let mounted = |path: &str| {
        mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).any(|mount| {
            path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let volumes = pod["volumes"].as_array().context("no volumes")?;
    for mount in mounts {
        let name = &mount["name"];
        ensure!(volumes.iter().any(|volume| volume["name"] == *name), "there is no volume {name}");
    }
    for variable in container["env"].as_array().context("no env")? {
        let name = variable["name"].as_str().unwrap_or_default();
        ensure!(known.contains(&name), "the agent does not know the variable {name}");
        if let Some(path) = variable["value"].as_str().filter(|value| value.starts_with('/')) {
            ensure!(mounted(path), "{name} is {path}, where nothing is mounted");
        }
    }
    Ok(())
}

/// What the port asks of clients: all but the certificate, which is not here.
pub fn web_config(text: &str) -> Result<()> {
    let file = std::env::temp_dir().join(format!("herder-web-{}.yaml", std::process::id()));
    let taken = AccessFiles::read(&file, |path| {
        if path == file { Ok(text.to_owned()) } else { std::fs::read_to_string(path) }
    });
    match taken.take().map_err(|error| error.to_string()) {
        Ok(_) => Ok(()),
        Err(error) if error.contains("cannot read") && error.contains("tls.crt") => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

/// A node without a processor to spare is one where an agent is needed, and no reason to end
/// it: it may stay silent for minutes, and needs long for an answer.
fn liveness(container: &Value) -> Result<()> {
    let probe = &container["livenessProbe"];
    let path = &probe["httpGet"]["path"];
    ensure!(path == "/livez", "the liveness probe asks for {path}");
    let number = |key: &str, default| probe[key].as_u64().unwrap_or(default);
    let silent = number("periodSeconds", 10) * number("failureThreshold", 3);
    let answer = number("timeoutSeconds", 1);
    ensure!(silent >= 300, "the agent is restarted after {silent} s without an answer");
    ensure!(answer >= 15, "an answer that takes longer than {answer} s counts as none");
    Ok(())
}

/// Checks the overlay: its own image and rules take the places of the shipped ones.
pub fn overlay(objects: &[Value]) -> Result<()> {
    let find = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("no {kind}"))
    };
    let image = find("DaemonSet")?.pointer("/spec/template/spec/containers/0/image");
    let image = image.and_then(Value::as_str).context("no image")?;
    ensure!(image.starts_with("registry.example.com/"), "the image is still {image}");
    let map = find("ConfigMap")?;
    // Under another name the DaemonSet would be started again at each change.
    ensure!(map["metadata"]["name"] == "herder-agent", "the rules are in {}", map["metadata"]);
    let keys = map["data"].as_object().context("no data")?.len();
    ensure!(keys == 1, "there are {keys} files of rules");
    let config = config(map)?;
    ensure!(config.rules.iter().any(|rule| &*rule.name == "forking"), "other rules are in force");
    // docs/install.md has the reader try the example workload after the overlay.
    let labels = BTreeMap::from([("app".to_owned(), "herder".to_owned())]);
    ensure!(steers(&config, "default", &labels, "herder"), "no rule matches the example workload");
    Ok(())
}

/// Whether a file of rules is one that the agent takes.
#[cfg(test)]
pub fn rules_of_the_overlay(file: &std::path::Path) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let config = Config::parse(&text, "herder.yaml")?;
    ensure!(!config.rules.is_empty(), "there are no rules");
    Ok(())
}

/// The shipped rules match the examples, and nothing else.
fn rules(config_map: &Value) -> Result<()> {
    let config = config(config_map)?;
    let table =
        [("herder", "default", true), ("other", "default", false), ("herder", "other", false)];
    for (app, namespace, expected) in table {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let steered = steers(&config, namespace, &labels, "herder");
        ensure!(steered == expected, "app={app} in {namespace}: steered is {steered}");
    }
    Ok(())
}

pub fn config(config_map: &Value) -> Result<Config> {
    let text = config_map["data"]["herder.yaml"].as_str().context("no herder.yaml")?;
    Ok(Config::parse(text, "herder.yaml")?)
}

/// Whether the first rule for a container wants its processes killed one by one.
fn steers(
    config: &Config,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    container: &str,
) -> bool {
    let first = config.rules.iter().find(|rule| {
        let Selects::Pods(pods) = &rule.selects else { return false };
        let any = |globs: &Option<Vec<Pattern>>, name: &str| {
            globs.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)))
        };
        let wanted = &pods.selector.match_labels;
        any(&pods.namespaces, namespace)
            && any(&pods.containers, container)
            && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    });
    first.is_some_and(|rule| rule.oom_group == OomGroup::SingleProcess)
}

/// Checks an example: what the challenge asks for, and that the shipped rules
/// steer it.
pub fn example(deployment: &Value, config_map: &Value) -> Result<()> {
    let at = |pointer: &str| deployment.pointer(pointer).unwrap_or(&Value::Null);
    let pod = |pointer: &str| at(&format!("/spec/template/spec{pointer}")).clone();
    let wanted = [
        (at("/metadata/name").clone(), json!("herder")),
        (pod("/tolerations"), json!([{ "operator": "Exists" }])),
        (pod("/containers/0/resources/limits"), json!({ "cpu": "250m", "memory": "256Mi" })),
        (
            pod("/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution"),
            json!([{
                "labelSelector": at("/spec/selector"),
                "topologyKey": "kubernetes.io/hostname",
            }]),
        ),
        // Else an update waits for a node without a pod.
        (at("/spec/strategy/rollingUpdate").clone(), json!({ "maxSurge": 0, "maxUnavailable": 1 })),
    ];
    for (found, wanted) in wanted {
        ensure!(found == wanted, "{found} should be {wanted}");
    }
    let image = pod("/containers/0/image");
    let known = image == CHALLENGE || image == HOG;
    ensure!(known, "{image} is neither {CHALLENGE} nor {HOG}");
    // Nothing is to be pulled where there is no registry.
    let pull = pod("/containers/0/imagePullPolicy");
    ensure!(image != HOG || pull == "IfNotPresent", "imagePullPolicy is {pull}");

    let labels = serde_json::from_value(at("/spec/template/metadata/labels").clone())?;
    let namespace = at("/metadata/namespace").as_str().context("no namespace")?;
    let container = pod("/containers/0/name");
    let container = container.as_str().context("no name")?;
    ensure!(
        steers(&config(config_map)?, namespace, &labels, container),
        "the shipped rules do not steer it"
    );
    Ok(())
}
