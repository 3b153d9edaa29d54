//! What can be known of the dashboard and the rules without Prometheus.

use super::{fresh, proof, source};
use crate::command::workspace;
use serde_json::Value;
use std::{collections::HashSet, fs};

fn dashboard() -> Value {
    let text = fs::read_to_string(source::directory().join("herder.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

/// All strings in it, wherever they are.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(strings).collect(),
        Value::Object(all) => all.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// The words that begin with `begin`, in the letters of names.
fn words<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    text.split(|found| !letter(found)).filter(|word| word.starts_with(begin)).collect()
}

#[test]
fn what_is_made_is_not_stale() {
    fresh().unwrap();
}

#[test]
fn every_variable_and_data_source_resolves() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: HashSet<_> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["datasource", "cluster", "namespace", "pod", "node"] {
        assert!(names.contains(name), "{name}");
    }
    for text in strings(&dashboard) {
        for part in text.split('$').skip(1) {
            let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let name =
                part.trim_start_matches('{').split(|letter| !letters(letter)).next().unwrap();
            let built_in = ["__range", "__range_s", "__rate_interval", "__all"].contains(&name);
            assert!(built_in || names.contains(name), "${name} in {text}");
        }
        assert!(!text.contains('@'), "a short form that no reader knows: {text}");
    }
    fn sources(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(all) => {
                found.extend(all.get("datasource").cloned());
                all.values().for_each(|value| sources(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| sources(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    sources(&dashboard, &mut found);
    assert!(found.len() > 20);
    for source in found {
        assert_eq!(source, serde_json::json!({"type": "prometheus", "uid": "${datasource}"}));
    }
    assert!(dashboard["id"].is_null());
}

#[test]
fn each_panel_says_what_to_do_and_has_its_place() {
    let dashboard = dashboard();
    let mut taken = HashSet::new();
    let mut ids = HashSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().unwrap().len() > 60, "{}", panel["title"]);
        }
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
    }
}

/// A metric that was renamed would leave a panel empty.
#[test]
fn every_metric_is_in_the_contract() {
    let contract = read("docs/metrics.md");
    let rules = source::rules().unwrap();
    let recorded: HashSet<_> = rules
        .groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter_map(|rule| rule.record.as_deref())
        .collect();
    for one in proof::expressions().unwrap() {
        for word in words(&one.expr, "") {
            let family = word.trim_end_matches("_bucket");
            let known = !word.starts_with("herder_") || contract.contains(&format!("`{family}`"));
            assert!(known, "{word} in {} is not in docs/metrics.md", one.from);
            assert!(!word.contains(':') || recorded.contains(word), "{word} in {}", one.from);
        }
    }
}

/// What is in the parentheses that the text begins with.
fn inside(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    &text[1..end.unwrap()]
}

/// An agent that was replaced has left its part under another `instance`: the largest of the two
/// would be less than both counted.
#[test]
fn what_grows_is_summed_up_within_a_job() {
    let grows = |text: &str| text.contains("increase(") || text.contains("rate(");
    for one in proof::expressions().unwrap() {
        let expr = one.expr.split_whitespace().collect::<Vec<_>>().join(" ");
        let expr = expr.replace("( ", "(").replace(" )", ")");
        let summed = "sum by (cluster, node, job";
        assert!(!grows(&expr) || expr.contains(summed), "{}: {expr}", one.from);
        for part in expr.split("max by (cluster, node").skip(1) {
            let (labels, of) = part.split_once(") ").unwrap();
            let of = inside(of);
            let begin = format!("{summed}{labels}) (");
            assert!(!grows(of) || of.starts_with(&begin), "{}: no {begin} in {of}", one.from);
        }
    }
}

/// A rule is evaluated twice a minute. What it reads of every container of thousands of nodes has to
/// be little; what was recorded of those with kills may be of a day.
#[test]
fn no_rule_reads_more_than_an_hour_of_what_agents_expose() {
    for rule in source::rules().unwrap().groups.iter().flat_map(|group| &group.rules) {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
        for (at, _) in rule.expr.match_indices('[') {
            let (before, range) = rule.expr.split_at(at);
            let range = range[1..].split(']').next().unwrap();
            let selected = before.strip_suffix('}').and_then(|it| it.rsplit_once('{'));
            let series = selected.map_or(before, |(series, _)| series);
            let series = series.rsplit(|found| !letter(found)).next().unwrap();
            let short = range == "1h" || range.ends_with('m');
            assert!(short || series.contains(':'), "{}: {series}[{range}]", rule.name());
        }
    }
}

/// Each alert links to its own heading, and each heading is of an alert.
#[test]
fn the_runbook_has_each_alert() {
    let runbook = read("docs/runbook.md");
    let headings: HashSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let written = read("dashboards/alerts.yaml");
    let rules = source::rules().unwrap();
    let alerts: Vec<_> = rules
        .groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter(|rule| rule.alert.is_some())
        .collect();
    for rule in &alerts {
        let name = rule.name();
        assert!(headings.contains(name), "{name}");
        let link = format!("docs/runbook.md#{}\n", name.to_lowercase());
        assert!(written.contains(&link), "no link to {link}");
        let tests = read("dashboards/tests/alerts.yaml");
        let cases =
            tests.split("alertname: ").filter(|case| case.starts_with(&format!("{name}\n")));
        let (quiet, firing): (Vec<_>, Vec<_>) =
            cases.partition(|case| case.contains("exp_alerts: []"));
        assert!(!quiet.is_empty() && !firing.is_empty(), "{name} is not tested both ways");
    }
    assert_eq!(headings.len(), alerts.len());
    for word in read("dashboards/panels.yaml").split(|letter: char| !letter.is_ascii_alphanumeric())
    {
        let meant = word.strip_prefix("Herder").is_some_and(|rest| !rest.is_empty());
        assert!(!meant || headings.contains(word), "{word} is not in the runbook");
    }
}
