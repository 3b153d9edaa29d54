//! What the kubelet asks a runtime for, by a pod's manifest (`generateContainerConfig()`,
//! pkg/kubelet/kuberuntime). A key that it does not know fails, so that no manifest is tried in
//! part only.

use super::messages::{
    Capabilities, ContainerConfig, ContainerSecurity, Image, KeyValue, LinuxContainer, Mount,
    Namespaces, Number, Resources, SecurityProfile,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::Path,
};

/// The score of a burstable container that requests 32 MiB of a node's 2 GiB
/// (`GetContainerOOMScoreAdjust()`, pkg/kubelet/qos).
pub const BURSTABLE: i64 = 985;

/// That of the classes `system-node-critical` and `system-cluster-critical`.
const CRITICAL: i64 = -997;

/// As `maskedPaths` and `readonlyPaths` are where `procMount` is the default.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the scheduler, admission and the kubelet's own probes take from a pod's specification.
const OF_OTHERS: [&str; 8] = [
    "affinity",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "nodeSelector",
    "priorityClassName",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
];

/// Those that a pod has of its own.
pub fn namespaces(spec: &Value) -> Namespaces {
    if spec["hostNetwork"] == true { Namespaces::NODES_NETWORK } else { Namespaces::OWN }
}

/// The only container of a pod. Volumes that are not the node's own are directories here, by their
/// names. Its output goes to `log`, which is a file of `/tmp`.
pub fn container(spec: &Value, volumes: &[(&str, &str)], log: &str) -> ContainerConfig {
    assert_known(spec, &[&OF_OTHERS[..], &["containers", "hostNetwork", "volumes"]].concat());
    let [it] = &spec["containers"].as_array().expect("containers")[..] else {
        panic!("more than one container")
    };
    assert_known(
        it,
        &[
            "args",
            "command",
            "env",
            "image",
            "imagePullPolicy",
            "livenessProbe",
            "name",
            "ports",
            "readinessProbe",
            "resources",
            "securityContext",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "volumeMounts",
        ],
    );
    let mounts = list(&it["volumeMounts"]).iter().map(|mount| Mount {
        container_path: text(&mount["mountPath"]),
        host_path: on_node(volume(spec, &mount["name"]), volumes),
        readonly: mount["readOnly"].as_bool().unwrap_or(false),
    });
    let score = match spec["priorityClassName"].as_str() {
        Some(class) if class.starts_with("system-") => CRITICAL,
        _ => BURSTABLE,
    };
    ContainerConfig {
        metadata: None,
        image: Some(Image { image: text(&it["image"]) }),
        command: list(&it["command"]).iter().map(text).collect(),
        args: list(&it["args"]).iter().map(text).collect(),
        envs: list(&it["env"]).iter().map(variable).collect(),
        mounts: mounts.chain(termination_message(it)).collect(),
        log_path: log.into(),
        linux: Some(LinuxContainer {
            resources: Some(resources(&it["resources"], score)),
            security_context: Some(security(&it["securityContext"], namespaces(spec))),
        }),
    }
}

fn assert_known(object: &Value, keys: &[&str]) {
    let all = object.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let unknown: Vec<_> = all.filter(|key| !keys.contains(key)).collect();
    assert!(unknown.is_empty(), "the tests' kubelet does not know {unknown:?} of {object}");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn variable(it: &Value) -> KeyValue {
    let value = match it["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some("spec.nodeName") => "node-1".to_owned(),
        Some(other) => panic!("the tests' kubelet does not know the field {other}"),
        None => text(&it["value"]),
    };
    KeyValue { key: text(&it["name"]), value }
}

fn volume<'a>(spec: &'a Value, name: &Value) -> &'a Value {
    let found = list(&spec["volumes"]).iter().find(|volume| volume["name"] == *name);
    found.unwrap_or_else(|| panic!("there is no volume {name}"))
}

/// Where the node has it.
fn on_node(volume: &Value, volumes: &[(&str, &str)]) -> String {
    let Value::Object(path) = &volume["hostPath"] else {
        let found = volumes.iter().find(|(name, _)| volume["name"] == *name);
        return found.unwrap_or_else(|| panic!("where is {volume}?")).1.to_owned();
    };
    let kind = path.get("type").and_then(Value::as_str).unwrap_or("");
    let path = text(&path["path"]);
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path).unwrap(),
        "Directory" | "" => assert!(Path::new(&path).is_dir(), "{path} is no directory"),
        other => panic!("the tests' kubelet does not know the type {other}"),
    }
    path
}

/// The kubelet makes a file for it.
fn termination_message(it: &Value) -> Option<Mount> {
    let container_path = it["terminationMessagePath"].as_str()?.to_owned();
    let host_path = format!("/tmp/termination-message-{}", text(&it["name"]));
    File::create(&host_path).unwrap();
    Some(Mount { container_path, host_path, readonly: false })
}

fn resources(it: &Value, oom_score_adj: i64) -> Resources {
    let memory = text(&it["limits"]["memory"]);
    let memory: i64 = memory.strip_suffix("Mi").expect("MiB").parse().unwrap();
    let cpu = it["requests"]["cpu"].as_str().unwrap_or("0m");
    let thousandths: i64 = cpu.strip_suffix('m').expect("thousandths").parse().unwrap();
    let cpu_shares = (thousandths * 1024 / 1000).max(2);
    Resources { cpu_shares, oom_score_adj, ..Resources::limited(memory) }
}

fn security(it: &Value, namespaces: Namespaces) -> ContainerSecurity {
    assert_known(
        it,
        &[
            "allowPrivilegeEscalation",
            "appArmorProfile",
            "capabilities",
            "privileged",
            "readOnlyRootFilesystem",
            "runAsUser",
            "seccompProfile",
        ],
    );
    assert_ne!(it["privileged"], true, "nothing of Herder is");
    let is = |key: &str| it[key].as_bool();
    let capabilities = |key: &str| list(&it["capabilities"][key]).iter().map(text).collect();
    let profile = |key: &str| {
        let profile = match it[key]["type"].as_str()? {
            "RuntimeDefault" => 0,
            "Unconfined" => 1,
            other => panic!("the tests' kubelet does not know the profile {other}"),
        };
        Some(SecurityProfile { profile })
    };
    ContainerSecurity {
        capabilities: Some(Capabilities { add: capabilities("add"), drop: capabilities("drop") }),
        namespaces: Some(namespaces),
        run_as_user: it["runAsUser"].as_i64().map(|value| Number { value }),
        readonly_rootfs: is("readOnlyRootFilesystem").unwrap_or(false),
        no_new_privileges: is("allowPrivilegeEscalation") == Some(false),
        masked_paths: MASKED.map(str::to_owned).into(),
        readonly_paths: READ_ONLY.map(str::to_owned).into(),
        seccomp: profile("seccompProfile").or(Some(SecurityProfile { profile: 1 })),
        // Where a pod asks for none, the runtime takes its default.
        apparmor: profile("appArmorProfile"),
    }
}
