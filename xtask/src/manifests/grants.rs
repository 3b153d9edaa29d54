//! What objects grant, as a list to compare with a table: so that no change loosens
//! them unnoticed. What is not known to be harmless counts as granted.

use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;

/// What the base grants.
const BASE: &[&str] = &[
    "ClusterRole: list pods",
    "ClusterRole: watch pods",
    "ClusterRole: create events",
    "ClusterRole: patch events",
    "ClusterRoleBinding: ClusterRole/herder-agent to ServiceAccount herder-agent",
    "Namespace: pod-security enforce=privileged",
    "Namespace: pod-security audit=privileged",
    "Namespace: pod-security warn=privileged",
    "DaemonSet: service account token",
    "DaemonSet: priority system-node-critical",
    "DaemonSet: config map herder-agent at /etc/herder read-only",
    "DaemonSet: host path /sys/fs/cgroup at /host/cgroup read-write",
    "DaemonSet: empty directory at /var/lib/herder read-write",
    "agent: runAsUser=0",
    "agent: privileged=false",
    "agent: allowPrivilegeEscalation=false",
    "agent: readOnlyRootFilesystem=true",
    "agent: capabilities.drop=ALL",
    "agent: capabilities.add=BPF",
    "agent: capabilities.add=PERFMON",
    "agent: seccompProfile.type=RuntimeDefault",
];

/// What each component adds (+) and takes away (-).
const COMPONENTS: &[(&str, &[&str])] = &[
    (
        "bundles",
        &[
            "+DaemonSet: host path /run/containerd/io.containerd.runtime.v2.task/k8s.io at /host/bundles read-only HostToContainer",
        ],
    ),
    (
        "bundles-crio",
        &[
            "+DaemonSet: host path /run/containers/storage/overlay-containers at /host/bundles read-only HostToContainer",
        ],
    ),
    ("busy-nodes", &["+agent: capabilities.add=SYS_NICE"]),
    ("kernel-5.10", &["+agent: capabilities.add=SYS_RESOURCE"]),
    ("network-policy", &["+NetworkPolicy: herder-agent"]),
    (
        "no-ebpf",
        &[
            "-agent: capabilities.add=BPF",
            "-agent: capabilities.add=DAC_OVERRIDE",
            "-agent: capabilities.add=PERFMON",
            "-agent: capabilities.add=SYS_NICE",
            "-agent: capabilities.add=SYS_RESOURCE",
            "-SecurityContextConstraints: allowedCapabilities=BPF",
            "-SecurityContextConstraints: allowedCapabilities=DAC_OVERRIDE",
            "-SecurityContextConstraints: allowedCapabilities=PERFMON",
            "-SecurityContextConstraints: allowedCapabilities=SYS_NICE",
            "-SecurityContextConstraints: allowedCapabilities=SYS_RESOURCE",
        ],
    ),
    ("no-events", &["-ClusterRole: create events", "-ClusterRole: patch events"]),
    ("nri", &["+DaemonSet: host path /var/run/nri at /host/nri read-only"]),
    (
        "openshift",
        &[
            "+agent: seLinuxOptions.type=spc_t",
            "+Role: use securitycontextconstraints.security.openshift.io/herder-agent",
            "+RoleBinding: Role/herder-agent to ServiceAccount herder-agent",
            "+SecurityContextConstraints: allowHostDirVolumePlugin=true",
            "+SecurityContextConstraints: allowHostIPC=false",
            "+SecurityContextConstraints: allowHostNetwork=false",
            "+SecurityContextConstraints: allowHostPID=false",
            "+SecurityContextConstraints: allowHostPorts=false",
            "+SecurityContextConstraints: allowPrivilegeEscalation=false",
            "+SecurityContextConstraints: allowPrivilegedContainer=false",
            "+SecurityContextConstraints: allowedCapabilities=BPF",
            "+SecurityContextConstraints: allowedCapabilities=PERFMON",
            "+SecurityContextConstraints: fsGroup.type=RunAsAny",
            "+SecurityContextConstraints: readOnlyRootFilesystem=true",
            "+SecurityContextConstraints: requiredDropCapabilities=ALL",
            "+SecurityContextConstraints: runAsUser.type=MustRunAs",
            "+SecurityContextConstraints: runAsUser.uid=0",
            "+SecurityContextConstraints: seLinuxContext.type=RunAsAny",
            "+SecurityContextConstraints: seccompProfiles=runtime/default",
            "+SecurityContextConstraints: supplementalGroups.type=RunAsAny",
            "+SecurityContextConstraints: volumes=configMap",
            "+SecurityContextConstraints: volumes=emptyDir",
            "+SecurityContextConstraints: volumes=hostPath",
            "+SecurityContextConstraints: volumes=projected",
        ],
    ),
    ("pod-monitor", &["+PodMonitor: herder-agent"]),
    ("priority-quota", &["+ResourceQuota: herder-agent"]),
    (
        "protect-init",
        &[
            "+DaemonSet: host path /proc at /host/proc read-write",
            "+agent: capabilities.add=DAC_OVERRIDE",
            "+agent: capabilities.add=SYS_RESOURCE",
            "+DaemonSet: host path /var/lib/herder at /var/lib/herder read-write",
            "-DaemonSet: empty directory at /var/lib/herder read-write",
        ],
    ),
    ("prometheus-rule", &["+PrometheusRule: herder-agent"]),
    ("rootless", &["+agent: capabilities.add=DAC_OVERRIDE"]),
    ("self", &["+Service: herder-self"]),
    ("selinux", &["+agent: seLinuxOptions.type=spc_t"]),
    (
        "tls",
        &[
            "+DaemonSet: secret herder-agent-tls at /etc/herder-tls read-only",
            "+DaemonSet: secret herder-agent-web at /etc/herder-web read-only",
            "+Secret: herder-agent-web",
        ],
    ),
    (
        "state",
        &[
            "+DaemonSet: host path /var/lib/herder at /var/lib/herder read-write",
            "-DaemonSet: empty directory at /var/lib/herder read-write",
        ],
    ),
    (
        "systemd",
        &["+DaemonSet: host path /run/systemd/transient at /host/systemd-transient read-only"],
    ),
];

/// What the examples grant: no security context, no volume, no right. They get the
/// token of the namespace's default account as every pod does.
const EXAMPLE: &[&str] = &["Deployment: service account token"];

/// Keys of a pod and of a container that grant nothing, or are listed by name.
const HARMLESS: &[&str] = &[
    "affinity",
    "args",
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "nodeSelector",
    "priorityClassName",
    "readinessProbe",
    "resources",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tolerations",
    "volumeMounts",
    "volumes",
];

/// The table's lines for a set of components.
pub fn expected(components: &[String]) -> Result<BTreeSet<String>> {
    if components == ["an example"] {
        return Ok(EXAMPLE.iter().map(|line| (*line).to_owned()).collect());
    }
    let mut lines: BTreeSet<String> = BASE.iter().map(|line| (*line).to_owned()).collect();
    let mut before = BTreeSet::new();
    for component in components {
        let Some((_, changes)) = COMPONENTS.iter().find(|(name, _)| name == component) else {
            bail!("the table in xtask/src/manifests/grants.rs has no component {component}");
        };
        for change in *changes {
            match change.strip_prefix('-') {
                Some(line) => drop(lines.remove(line)),
                None => drop(lines.insert(change.trim_start_matches('+').to_owned())),
            }
            // What the pod asks for, the constraints have to allow.
            let asked = change.strip_prefix("+agent: capabilities.add=");
            if let Some(name) = asked.filter(|_| before.contains("openshift")) {
                lines.insert(format!("SecurityContextConstraints: allowedCapabilities={name}"));
            }
            if change.starts_with("+DaemonSet: secret ") && before.contains("openshift") {
                lines.insert("SecurityContextConstraints: volumes=secret".into());
            }
        }
        before.insert(component.as_str());
    }
    Ok(lines)
}

/// What objects grant, one line for each right.
pub fn granted(objects: &[Value]) -> BTreeSet<String> {
    objects.iter().flat_map(one).collect()
}

fn one(object: &Value) -> Vec<String> {
    let kind = text(&object["kind"]);
    let line = |line: String| format!("{kind}: {line}");
    match kind {
        "ServiceAccount" | "ConfigMap" => Vec::new(),
        "Namespace" => labels(object).map(line).collect(),
        "Role" | "ClusterRole" => list(&object["rules"]).flat_map(rights).map(line).collect(),
        "RoleBinding" | "ClusterRoleBinding" => bindings(object).map(line).collect(),
        "DaemonSet" | "Deployment" => {
            let pod = &object["spec"]["template"]["spec"];
            let containers = list(&pod["containers"]).flat_map(container);
            pod_rights(pod).into_iter().map(line).chain(containers).collect()
        }
        "SecurityContextConstraints" => {
            let mut lines = Vec::new();
            for (key, value) in fields(object) {
                if !["apiVersion", "kind", "metadata"].contains(&key) {
                    leaves(key, value, &mut lines);
                }
            }
            lines.into_iter().map(line).collect()
        }
        _ => vec![line(text(&object["metadata"]["name"]).to_owned())],
    }
}

fn labels(namespace: &Value) -> impl Iterator<Item = String> {
    fields(&namespace["metadata"]["labels"]).filter_map(|(label, value)| {
        let mode = label.strip_prefix("pod-security.kubernetes.io/")?;
        Some(format!("pod-security {mode}={}", text(value)))
    })
}

/// `VERB RESOURCE.GROUP/NAME` for each of a rule.
fn rights(rule: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names: Vec<_> =
        list(&rule["resourceNames"]).map(|name| format!("/{}", text(name))).collect();
    if names.is_empty() {
        names.push(String::new());
    }
    for verb in list(&rule["verbs"]).map(text) {
        lines.extend(list(&rule["nonResourceURLs"]).map(|url| format!("{verb} {}", text(url))));
        for group in list(&rule["apiGroups"]).map(text) {
            let dot = if group.is_empty() { "" } else { "." };
            for resource in list(&rule["resources"]).map(text) {
                lines.extend(
                    names.iter().map(|name| format!("{verb} {resource}{dot}{group}{name}")),
                );
            }
        }
    }
    lines
}

fn bindings(binding: &Value) -> impl Iterator<Item = String> {
    let role = &binding["roleRef"];
    list(&binding["subjects"]).map(|subject| {
        let (role, name) = (text(&role["kind"]), text(&role["name"]));
        format!("{role}/{name} to {} {}", text(&subject["kind"]), text(&subject["name"]))
    })
}

fn pod_rights(pod: &Value) -> Vec<String> {
    let mut lines = unknown(pod);
    if pod["automountServiceAccountToken"] != false {
        lines.push("service account token".into());
    }
    if let Some(priority) = pod["priorityClassName"].as_str() {
        lines.push(format!("priority {priority}"));
    }
    leaves("securityContext", &pod["securityContext"], &mut lines);
    for volume in list(&pod["volumes"]) {
        let what = if let Some(path) = volume["hostPath"]["path"].as_str() {
            format!("host path {path}")
        } else if let Some(name) = volume["configMap"]["name"].as_str() {
            format!("config map {name}")
        } else if let Some(name) = volume["secret"]["secretName"].as_str() {
            format!("secret {name}")
        } else if fields(&volume["emptyDir"]).all(|(key, _)| key == "sizeLimit")
            && volume["emptyDir"].is_object()
        {
            "empty directory".to_owned()
        } else {
            format!("volume {volume}")
        };
        let mounts =
            list(&pod["containers"]).flat_map(|container| list(&container["volumeMounts"]));
        let mounted = mounts.filter(|mount| mount["name"] == volume["name"]);
        lines.extend(mounted.map(|mount| {
            let access = if mount["readOnly"] == true { "read-only" } else { "read-write" };
            let propagation = mount["mountPropagation"].as_str();
            let propagation = propagation.map(|name| format!(" {name}")).unwrap_or_default();
            format!("{what} at {} {access}{propagation}", text(&mount["mountPath"]))
        }));
        if !matches!(what.split_once(' '), Some(("host" | "config" | "empty" | "secret", _))) {
            lines.push(what);
        }
    }
    lines
}

fn container(container: &Value) -> Vec<String> {
    let mut lines = unknown(container);
    for (key, value) in fields(&container["securityContext"]) {
        leaves(key, value, &mut lines);
    }
    let name = text(&container["name"]);
    lines.into_iter().map(|line| format!("{name}: {line}")).collect()
}

/// The keys of a pod or container that are not known to be harmless.
fn unknown(of: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in fields(of) {
        match key {
            // A variable may come from a Secret, a port may be one of the node.
            "env" | "ports" => {
                let harmless = ["name", "value", "containerPort", "protocol"];
                for (name, value) in list(value).flat_map(fields) {
                    let node_name =
                        value.pointer("/fieldRef/fieldPath") == Some(&"spec.nodeName".into());
                    if !harmless.contains(&name) && !node_name {
                        lines.push(format!("{key} {name} {value}"));
                    }
                }
            }
            _ if HARMLESS.contains(&key) => {}
            _ => leaves(key, value, &mut lines),
        }
    }
    lines
}

/// `path=value` for every value below.
fn leaves(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, lines));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(path, item, lines)),
        Value::String(text) => lines.push(format!("{path}={text}")),
        other => lines.push(format!("{path}={other}")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}
