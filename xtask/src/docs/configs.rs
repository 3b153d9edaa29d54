//! Configurations that documents give: the agent must take the rules and the annotations, and the
//! rest must be YAML.

use super::documents;
use crate::{command::workspace, manifests::agreement};
use herder_model::{
    cgroup::CgroupPath,
    pods::OOM_GROUP_ANNOTATION,
    rules::{
        annotation,
        matching::{Policy, Subject, SubjectPod, Verdict},
        parse::Config,
    },
};
use serde_json::Value;

/// The code blocks of a language, each with the path of its document.
fn blocks(language: &str) -> Vec<(String, String)> {
    let fence = format!("```{language}\n");
    let all = documents().into_iter().flat_map(|(path, text)| {
        let blocks: Vec<_> = text.split(&fence).skip(1).map(str::to_owned).collect();
        blocks.into_iter().map(move |block| (path.display().to_string(), block))
    });
    all.filter_map(|(path, block)| Some((path, block.split_once("```")?.0.to_owned()))).collect()
}

#[test]
fn rules_in_documents_are_taken() {
    let all = blocks("yaml");
    let rules: Vec<_> = all.iter().filter(|(_, block)| block.starts_with("rules:")).collect();
    assert!(rules.len() >= 8, "{}", rules.len());
    for (path, block) in rules {
        let parsed = Config::parse(block, path);
        assert!(parsed.is_ok_and(|config| !config.rules.is_empty()), "{path}: {block}");
    }
}

/// podman gives each container's monitor a scope of its own, beside the container's. Rules that are
/// proposed for podman are about containers.
#[test]
fn rules_for_podman_leave_its_monitor_alone() {
    let shipped = workspace().join("deploy/systemd/herder.yaml");
    let shipped = (shipped.display().to_string(), std::fs::read_to_string(&shipped).unwrap());
    let mut texts: Vec<_> = blocks("yaml").into_iter().chain([shipped]).collect();
    texts.retain(|(_, text)| text.contains("libpod-") && text.contains("rules:"));
    assert!(texts.len() >= 2, "{}", texts.len());
    for (place, text) in texts {
        let policy = Policy::new(Config::parse(&text, &place).unwrap());
        for id in ["0123456789abcdef".repeat(4), "c0ffee00".repeat(8), "d".repeat(64)] {
            let verdict = |name: String| {
                let path = CgroupPath::parse(format!("/machine.slice/{name}").as_bytes()).unwrap();
                policy.decide(&Subject { cgroup: &path, pod: SubjectPod::None })
            };
            let container = verdict(format!("libpod-{id}.scope"));
            assert!(matches!(container, Verdict::Matched(_)), "{place}: {container:?}");
            let monitor = verdict(format!("libpod-conmon-{id}.scope"));
            assert!(matches!(monitor, Verdict::Unmatched), "{place}: {monitor:?}");
        }
    }
    // In a table, too, no glob is proposed that matches both.
    for (path, text) in documents() {
        assert!(!text.contains("/libpod-*.scope`"), "{}", path.display());
    }
}

#[test]
fn web_configurations_in_documents_are_taken() {
    let mut count = 0;
    for (path, block) in blocks("yaml") {
        if block.starts_with("tls_server_config:") {
            let taken = agreement::web_config(&block);
            taken.unwrap_or_else(|error| panic!("{path}: {error}"));
            count += 1;
        }
    }
    assert!(count > 0);
    assert!(agreement::web_config("tls_config: {}").is_err());
}

#[test]
fn annotations_in_documents_are_taken() {
    let mut count = 0;
    for (path, block) in blocks("yaml") {
        let parsed: Value =
            serde_saphyr::from_str(&block).unwrap_or_else(|error| panic!("{path}: {block}{error}"));
        if let Some(value) = parsed["metadata"]["annotations"][OOM_GROUP_ANNOTATION].as_str() {
            assert!(annotation::wanted(value, "worker").is_ok(), "{path}: {value}");
            count += 1;
        }
    }
    assert!(count > 0);
}
