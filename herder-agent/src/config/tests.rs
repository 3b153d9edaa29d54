use super::*;

fn error(text: &str) -> String {
    Config::parse(text, "rules.yaml").unwrap_err().to_string()
}

#[test]
fn the_example_of_the_documentation_parses() {
    let text = r#"
rules:                                  # the first that matches wins
  - name: docker
    cgroups: ["/system.slice/docker-*.scope"]
    oomGroup: single-process
  - name: herder
    pods:
      namespaces: ["default"]
      selector: { matchLabels: { app: herder } }
      containers: ["*"]
    oomGroup: single-process
podAnnotations: ignore
"#;
    let config = Config::parse(text, "rules.yaml").unwrap();
    assert_eq!(config.rules.len(), 2);
    assert_eq!(config.pod_annotations, PodAnnotations::Ignore);
    let Selects::Pods(pods) = &config.rules[1].selects else { panic!() };
    assert_eq!(pods.selector.match_labels.get("app").map(String::as_str), Some("herder"));
    assert_eq!(config.rules[0].oom_group, OomGroup::SingleProcess);
}

#[test]
fn nothing_is_a_configuration_without_rules() {
    for text in ["", "# only a comment\n", "rules: []", "podAnnotations: allow"] {
        assert_eq!(Config::parse(text, "rules.yaml").unwrap(), Config::default(), "{text:?}");
    }
}

/// Each mistake, the line it is on, and a word of the message.
#[test]
fn mistakes_are_told_with_their_line() {
    let rule = |body: &str| format!("rules:\n  - name: a\n{body}");
    let table = [
        ("rulez: []".to_owned(), 1, "rulez"),
        (rule("    oomGroup: leave\n    cgroup: []\n"), 4, "cgroup"),
        (rule("    oomGroup: maybe\n    cgroups: [/a]\n"), 3, "maybe"),
        (rule("    cgroups: [/a]\n"), 3, "oom"),
        (rule("    oomGroup: leave\n"), 2, "either"),
        (rule("    oomGroup: leave\n    cgroups: [/a]\n    pods: {}\n"), 2, "either"),
        (rule("    oomGroup: leave\n    cgroups: []\n"), 2, "empty"),
        (rule("    oomGroup: leave\n    cgroups:\n      - a/b\n"), 5, "begin with '/'"),
        (rule("    oomGroup: leave\n    cgroups:\n      - /a\n      - '/***'\n"), 6, "no glob"),
        (
            rule(
                "    oomGroup: leave\n    cgroups: [/a]\n  - name: a\n    oomGroup: group\n    cgroups: [/b]\n",
            ),
            5,
            "second",
        ),
        (
            "rules:\n  - name: 'a b'\n    oomGroup: leave\n    cgroups: [/a]\n".to_owned(),
            2,
            "rule name",
        ),
        (
            rule(
                "    oomGroup: leave\n    pods:\n      selector:\n        matchExpressions:\n          - {key: a, operator: In}\n",
            ),
            7,
            "values",
        ),
        (
            rule(
                "    oomGroup: leave\n    pods:\n      selector:\n        matchExpressions:\n          - {key: a, operator: Is}\n",
            ),
            7,
            "Is",
        ),
        (rule("    oomGroup: leave\n    pods: {namespaces: []}\n"), 2, "leave it out"),
        (rule("    oomGroup: leave\n    cgroups: [/a/]\n"), 4, "end with a name"),
        (
            "rules:\n  - {name: annotation, cgroups: [/a], oomGroup: leave}\n".to_owned(),
            2,
            "annotation",
        ),
        ("podAnnotations: perhaps".to_owned(), 1, "perhaps"),
        ("rules: [".to_owned(), 1, ""),
    ];
    for (text, line, word) in table {
        let error = error(&text);
        assert!(error.starts_with(&format!("rules.yaml:{line}:")), "{text}\n=> {error}");
        assert!(error.contains(word), "{text}\n=> {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/rules.yaml")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/rules.yaml"), "{error}");
}
