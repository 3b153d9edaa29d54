//! Messages that documents cite, to look for in a log or at a failed start, are the agent's.

use super::documents;
use crate::command::workspace;
use std::{fs, path::Path};

/// All sources of the agent.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}

/// What stands in backticks and is a sentence or the beginning of one, and what `grep` looks for.
fn messages(text: &str) -> Vec<String> {
    let cited = text.split('`').skip(1).step_by(2).filter_map(|span| {
        let message = span.strip_suffix('.').or_else(|| span.strip_suffix(" …"))?;
        let begins = message.starts_with(char::is_uppercase) || message.starts_with("cannot ");
        (begins && message.contains(' ') && !message.contains('\n')).then(|| message.to_owned())
    });
    let searched = text.split("logs POD | grep '").skip(1);
    let searched = searched.filter_map(|rest| Some(rest.split_once('\'')?.0.replace('\\', "")));
    cited.chain(searched).collect()
}

#[test]
fn messages_in_documents_are_the_agents() {
    let mut code = String::new();
    for directory in ["herder-agent/src", "herder-agent/model/src"] {
        sources(&workspace().join(directory), &mut code);
    }
    let mut count = 0;
    for (path, text) in documents() {
        for message in messages(&text) {
            assert!(code.contains(&message), "{}: {message}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
    assert!(!code.contains("OOM kills were not noticed"), "not every message is the agent's");
}
