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
logLevel: info,herder_agent::enforce=debug
"#;
    let config = Config::parse(text, "rules.yaml").unwrap();
    assert_eq!(config.rules.len(), 2);
    assert_eq!(config.pod_annotations, PodAnnotations::Ignore);
    assert_eq!(config.log_level.unwrap().as_str(), "info,herder_agent::enforce=debug");
    let Selects::Pods(pods) = &config.rules[1].selects else { panic!() };
    assert_eq!(pods.selector.match_labels.get("app").map(String::as_str), Some("herder"));
    assert_eq!(config.rules[0].oom_group, OomGroup::SingleProcess);
}

#[test]
fn nothing_is_a_configuration_without_rules() {
    for text in ["", "\u{feff}", "# only a comment\n", "rules: []", "podAnnotations: allow"] {
        assert_eq!(Config::parse(text, "rules.yaml").unwrap(), Config::default(), "{text:?}");
    }
}

#[test]
fn an_init_is_protected_only_where_a_rule_says_so() {
    for (protects, expected) in
        [("", false), ("\n    protectInit: false", false), ("\n    protectInit: true", true)]
    {
        let text = format!(
            "rules:\n  - name: a\n    cgroups: [/a]\n    oomGroup: single-process{protects}\n"
        );
        let config = Config::parse(&text, "rules.yaml").unwrap();
        assert_eq!(config.rules[0].protect_init, expected, "{text}");
        let policy = crate::rules::matching::Policy::new(config);
        assert_eq!((policy.protects_init("a"), policy.protects_init("b")), (expected, false));
    }
}

/// Each mistake, the line it is on, and a word of the message.
#[test]
fn mistakes_are_reported_with_their_line() {
    let rule = |body: &str| format!("rules:\n  - name: a\n{body}");
    let table = [
        ("rulez: []".to_owned(), 1, "rulez"),
        (rule("    oomGroup: leave\n    cgroup: []\n"), 4, "cgroup"),
        (rule("    oomGroup: maybe\n    cgroups: [/a]\n"), 3, "maybe"),
        (rule("    cgroups: [/a]\n"), 2, "oom"),
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
        (
            rule("    oomGroup: group\n    protectInit: true\n    cgroups: [/a]\n"),
            4,
            "single-process",
        ),
        (
            rule("    oomGroup: leave\n    cgroups: [/a]\n    protectInit: true\n"),
            5,
            "single-process",
        ),
        (
            rule("    oomGroup: single-process\n    protectInit:\n    cgroups: [/a]\n"),
            4,
            "no value",
        ),
        (
            rule("    oomGroup: leave\n    cgroups: [/a]\n    victimArguments: true\n"),
            5,
            "single-process or group",
        ),
        (
            rule("    oomGroup: group\n    victimArguments: yes please\n    cgroups: [/a]\n"),
            4,
            "true or false",
        ),
        (rule("    oomGroup: group\n    victimArguments:\n    cgroups: [/a]\n"), 4, "no value"),
        ("podAnnotations: perhaps".to_owned(), 1, "perhaps"),
        ("rules: []\nlogLevel: inof\n".to_owned(), 2, "\"inof\" is no log level"),
        ("logLevel: [info]\n".to_owned(), 1, "a text"),
        ("rules: [".to_owned(), 1, ""),
    ];
    for (text, line, word) in table {
        let error = error(&text);
        assert!(error.starts_with(&format!("rules.yaml:{line}:")), "{text}\n=> {error}");
        assert!(error.contains(word), "{text}\n=> {error}");
    }
}

#[test]
fn what_protect_init_may_be_is_said_at_its_place() {
    for wrong in ["maybe", "[a]", "[]", "{a: b}", "1", "0.5", "'true'"] {
        let text = format!(
            "rules:\n  - name: a\n    cgroups: [/a]\n    oomGroup: single-process\n    protectInit: {wrong}\n"
        );
        let error = error(&text);
        let place = error.strip_prefix("rules.yaml:5:").and_then(|rest| rest.split_once(": "));
        let (column, why) = place.unwrap_or_else(|| panic!("{wrong} => {error}"));
        assert!(["5", "18"].contains(&column), "{wrong} => {error}");
        let expected = "`protectInit: true` or `protectInit: false` is needed here, not ";
        assert!(why.starts_with(expected), "{wrong} => {error}");
    }
}

#[test]
fn an_escalation_has_defaults_and_bounds() {
    let rule = |escalate: &str| {
        format!(
            "rules:\n  - name: a\n    cgroups: [/a]\n    oomGroup: single-process\n    escalate: {escalate}\n"
        )
    };
    let taken = [
        ("{to: group}", "3/5m=group"),
        ("{to: restart, after: 1, within: 30s}", "1/30s=restart"),
        ("{to: restart, after: 100, within: 24h}", "100/24h=restart"),
        ("{to: restart, within: '1h 30m'}", "3/90m=restart"),
    ];
    for (escalate, expected) in taken {
        let config = Config::parse(&rule(escalate), "rules.yaml").unwrap();
        assert_eq!(config.rules[0].escalate.unwrap().to_string(), expected, "{escalate}");
    }
    let refused = [
        ("{after: 3}", "5:15", "has no `to`"),
        ("{to: kill}", "5:20", "write one of group, restart"),
        ("{to: group, after: 0}", "5:34", "0 is not a number of kills from 1 to 100"),
        ("{to: group, after: -7}", "5:34", "-7 is not"),
        ("{to: group, after: 101}", "5:34", "101 is not"),
        ("{to: group, after: many}", "5:34", ""),
        ("{to: group, within: 5}", "5:35", "write a number with its unit"),
        ("{to: group, within: 0s}", "5:35", "out of bounds"),
        ("{to: group, within: 2d}", "5:35", "no duration"),
        ("{to: group, within: 25h}", "5:35", "out of bounds"),
        ("{to: group, within: }", "5:", "no value"),
        ("{to: group, per: 5m}", "5:27", "the keys are after, within, to"),
        ("restart", "5:", "a mapping"),
        ("", "5:", "`escalate` has no value"),
    ];
    for (escalate, place, word) in refused {
        let error = error(&rule(escalate));
        assert!(error.starts_with(&format!("rules.yaml:{place}")), "{escalate}\n=> {error}");
        assert!(error.contains(word), "{escalate}\n=> {error}");
    }
    for word in ["group", "leave"] {
        let text = rule("{to: restart}").replace("single-process", word);
        let error = error(&text);
        assert!(error.starts_with("rules.yaml:5:") && error.contains("single-process"), "{error}");
    }
}

/// A list whose items are all commented out is null to YAML; leaving the key out would match
/// all. Each is refused, with the line that has no value.
#[test]
fn what_has_no_value_never_widens_a_rule() {
    let pods = |body: &str| format!("rules:\n  - name: a\n    oomGroup: leave\n    pods:\n{body}");
    let requirement =
        |body: &str| pods(&format!("      selector:\n        matchExpressions:\n{body}"));
    let table = [
        ("rules:\n", 1, "`rules`"),
        ("rules: ~\n", 1, "`rules`"),
        ("rules:\n  -\n", 2, "`rules`"),
        ("podAnnotations:\n", 1, "`podAnnotations`"),
        ("logLevel:\n", 1, "`logLevel`"),
        ("rules:\n  - name:\n    oomGroup: leave\n    pods: {}\n", 2, "`name`"),
        ("rules:\n  - name: a\n    oomGroup:\n    pods: {}\n", 3, "`oomGroup`"),
        ("rules:\n  - name: a\n    oomGroup: leave\n    cgroups:\n      # - /a\n", 4, "`cgroups`"),
        (
            "rules:\n  - name: a\n    oomGroup: leave\n    cgroups:\n      - /a\n      -\n",
            6,
            "`cgroups`",
        ),
        ("rules:\n  - name: a\n    oomGroup: leave\n    pods:\n      # all: out\n", 4, "`pods`"),
        (&pods("      namespaces:\n        # - shop\n"), 5, "`namespaces`"),
        (&pods("      namespaces: null\n"), 5, "`namespaces`"),
        (&pods("      namespaces: [shop, ~]\n"), 5, "`namespaces`"),
        (&pods("      containers:\n"), 5, "`containers`"),
        (&pods("      containers:\n        - worker\n        -\n"), 7, "`containers`"),
        (&pods("      selector:\n"), 5, "`selector`"),
        (
            &pods("      selector:\n        matchLabels:\n          # app: web\n"),
            6,
            "`matchLabels`",
        ),
        (&pods("      selector:\n        matchLabels:\n          app:\n"), 7, "\"app\""),
        (&pods("      selector:\n        matchExpressions:\n"), 6, "`matchExpressions`"),
        (&requirement("          -\n"), 7, "`matchExpressions`"),
        (&requirement("          - {key: , operator: Exists}\n"), 7, "`key`"),
        (&requirement("          - {key: a, operator: }\n"), 7, "`operator`"),
        (&requirement("          - {key: a, operator: In, values: }\n"), 7, "`values`"),
        (&requirement("          - {key: a, operator: In, values: [b, ]}\n"), 0, ""),
        (&requirement("          - {key: a, operator: In, values: [b, ~]}\n"), 7, "`values`"),
        (&requirement("          - {key: a, operator: Exists, values: }\n"), 7, "`values`"),
    ];
    for (text, line, word) in table {
        let parsed = Config::parse(text, "rules.yaml");
        if line == 0 {
            assert!(parsed.is_ok(), "{text}\n=> {parsed:?}");
            continue;
        }
        let error = parsed.expect_err(text).to_string();
        assert!(error.starts_with(&format!("rules.yaml:{line}:")), "{text}\n=> {error}");
        assert!(error.contains(word) && error.contains("no value"), "{text}\n=> {error}");
    }
}

/// What Kubernetes and the kernel can have no name for, and what comes close.
#[test]
fn patterns_that_can_match_nothing_are_refused() {
    let namespaces = |glob: &str| format!("pods: {{namespaces: [{glob:?}]}}");
    let labels = |key: &str, value: &str| {
        format!("pods: {{selector: {{matchLabels: {{{key:?}: {value:?}}}}}}}")
    };
    let values = |value: &str| {
        format!(
            "pods: {{selector: {{matchExpressions: [{{key: a, operator: In, values: [{value:?}]}}]}}}}"
        )
    };
    let cgroups = |glob: &str| format!("cgroups: [{glob:?}]");
    let long = "x".repeat(64);
    let refused = [
        (namespaces("team-.*"), "regular expressions"),
        (namespaces("^team"), "\"^\""),
        (namespaces("Team-a"), "\"T\""),
        (namespaces("team_a"), "\"_\""),
        (namespaces("shop/web"), "\"/\""),
        (namespaces("shop,other"), "\",\""),
        (namespaces(" shop"), "\" \""),
        (namespaces("[A-Z]*"), "[A-Z]"),
        (namespaces("a|b"), "\"|\""),
        (namespaces(""), "empty"),
        (namespaces("-*"), "'-'"),
        (namespaces("shop-"), "'-'"),
        (namespaces(&long), "63"),
        ("pods: {containers: [worker_1]}".into(), "\"_\""),
        ("pods: {containers: ['web.*']}".into(), "regular expressions"),
        (labels("app", "web*"), "operator In"),
        (labels("app", "web?"), "operator In"),
        (labels("app", "a b"), "63 letters"),
        (labels("app", "-web"), "begin and end"),
        (labels("app", &long), "63"),
        (labels("app*", "web"), "key"),
        (labels("", "web"), "key"),
        (labels("/app", "web"), "key"),
        (labels("a/b/app", "web"), "key"),
        (labels("Example.com/app", "web"), "key"),
        (labels(&long, "web"), "key"),
        (values("web-*"), "operator In"),
        ("pods: {selector: {matchExpressions: [{key: 'a b', operator: Exists}]}}".into(), "key"),
        (cgroups("/sys/fs/cgroup/system.slice/docker-*.scope"), "\"/system.slice/docker-*.scope\""),
        (cgroups("/sys/fs/cgroup"), "below the mount"),
        (cgroups("/host/cgroup/kubepods/*"), "\"/kubepods/*\""),
        (cgroups("//system.slice"), "empty name"),
        (cgroups("/a/../b"), "'..'"),
        (cgroups("/./a"), "'.'"),
        (cgroups("/docker-{a,b}.scope"), "two patterns"),
        (cgroups("/a\nb"), "line break"),
        (cgroups(&format!("/{}", "x".repeat(256))), "255"),
        (cgroups("system.slice"), "begin with '/'"),
        (cgroups(""), "begin with '/'"),
        (cgroups("/"), "begin with '/'"),
    ];
    for (selects, word) in refused {
        let text = format!("rules:\n  - name: a\n    oomGroup: leave\n    {selects}\n");
        let error = Config::parse(&text, "rules.yaml").expect_err(&text).to_string();
        assert!(error.starts_with("rules.yaml:4:"), "{text}\n=> {error}");
        assert!(error.contains(word), "{text}\n=> {error}");
    }
    let taken = [
        namespaces("*"),
        namespaces("team-*"),
        namespaces("*-prod"),
        namespaces("[a-z]?-[!-]*[0-9]"),
        namespaces("[]a]"),
        namespaces(&long[1..]),
        namespaces("shop-?"),
        labels("app", ""),
        labels("app.kubernetes.io/name", "Web_1.2"),
        labels("app", &long[1..]),
        cgroups("/system.slice/docker-*.scope"),
        cgroups("/**"),
        cgroups("/sys/fs/cgroups"),
        cgroups("/...a/.b"),
        cgroups("/a[{]b[}]"),
        cgroups("/a/[!.]*"),
        cgroups("/Ünïcode *"),
        cgroups(&format!("/{}", "x".repeat(255))),
    ];
    for selects in taken {
        let text = format!("rules:\n  - name: a\n    oomGroup: leave\n    {selects}\n");
        let parsed = Config::parse(&text, "rules.yaml");
        assert!(parsed.is_ok(), "{text}\n=> {}", parsed.unwrap_err());
    }
}

/// No word of the library that reads YAML, or of Rust, reaches the operator who writes the file.
#[test]
fn errors_of_syntax_say_what_to_write() {
    let table = [
        ("rules: []\nrules: []\n", 2, "`rules` is there twice"),
        ("rules:\n  - {name: a, name: b}\n", 2, "`name` is there twice"),
        ("rulez: []\n", 1, "the keys are rules, podAnnotations, logLevel"),
        ("rules: web\n", 1, "a list"),
        ("rules: {name: a}\n", 1, "a list"),
        ("- name: a\n", 1, "a mapping"),
        ("web\n", 1, "a mapping"),
        ("rules:\n  - web\n", 2, "a mapping"),
        ("rules:\n  - {name: [a], oomGroup: leave, pods: {}}\n", 2, "a text"),
        ("rules:\n  - {name: a, oomGroup: leave, pods: {namespaces: shop}}\n", 2, "a list"),
        (
            "rules:\n  - {name: a, oomGroup: leave, pods: {selector: {matchLabels: [a]}}}\n",
            2,
            "a mapping",
        ),
        ("rules:\n  - {name: a, oomGroup: [leave], pods: {}}\n", 2, "one word"),
        ("rules:\n  - {name: a, oomGroup: 0, pods: {}}\n", 2, "single-process, group, leave"),
        ("podAnnotations: yes\n", 1, "allow, ignore"),
        ("rules: []\n---\nrules: []\n", 3, "second document"),
        ("rules: [\n", 0, ""),
        ("rules: *a\n", 1, "anchor"),
        ("rules:\n\t- name: a\n", 2, "YAML"),
        ("rules: [}\n", 1, "YAML"),
        ("rules: !!binary aGk=\n", 1, ""),
        ("rules: \"\\q\"\n", 1, "YAML"),
    ];
    for (text, line, word) in table {
        let error = error(text);
        let place = format!("rules.yaml:{line}:");
        assert!(line == 0 || error.starts_with(&place), "{text}\n=> {error}");
        assert!(error.contains(word), "{text}\n=> {error}");
        for foreign in [
            "Policy", "Options", "serde", "struct ", "enum", "deserial", "sequence", "Raw",
            "variant", "field", "newtype",
        ] {
            assert!(!error.contains(foreign), "{foreign}: {text}\n=> {error}");
        }
    }
}
