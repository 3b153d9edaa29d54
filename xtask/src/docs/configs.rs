//! Configurations that documents give: the agent must take the rules and the annotations, and the
//! rest must be YAML.

use super::documents;
use crate::manifests::agreement;
use herder_model::{
    pods::OOM_GROUP_ANNOTATION,
    rules::{annotation, parse::Config},
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
