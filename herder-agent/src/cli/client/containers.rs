//! Matched containers as a table: is the value what the rule wants, and if not,
//! why.

use super::{
    kills::place,
    table::{Cell, Columns, Look},
};
use herder_model::escalation::short;
use serde_json::Value;
use std::time::Duration;

const HEAD: [&str; 6] = ["CONTAINER", "RULE", "WANTED", "VALUE", "WRITES", "REVERTS"];

/// The table; with `nodes` it has a column for each container's `node`. One for escalations is there
/// if a rule of these containers has one.
pub(super) fn table(containers: &[Value], colours: bool, nodes: bool) -> String {
    let escalates = containers.iter().any(|container| !container["escalation"].is_null());
    let head = nodes.then_some("NODE").into_iter().chain(HEAD);
    let head = head.chain(escalates.then_some("ESCALATION")).chain(["OBSTACLE"]);
    let mut rows = vec![head.map(|name| Cell::new(name, Look::Head)).collect()];
    let mut sorted: Vec<_> = containers.iter().collect();
    sorted.sort_by_key(|container| place(&named(container)));
    rows.extend(sorted.into_iter().map(|container| {
        let node = nodes.then(|| Cell::new(container["node"].as_str().unwrap_or("-"), Look::Plain));
        node.into_iter().chain(row(container, escalates)).collect()
    }));
    Columns::default().lines(&rows, colours)
}

/// The owner's names beside the cgroup.
fn named(container: &Value) -> Value {
    let mut named = container["owner"].clone();
    if let Some(named) = named.as_object_mut() {
        named.insert("cgroup".into(), container["cgroup"].clone());
    }
    named
}

fn row(container: &Value, escalates: bool) -> Vec<Cell> {
    let number =
        |key: &str| container[key].as_u64().map_or("-".to_owned(), |value| value.to_string());
    let text = |key: &str| container[key].as_str().unwrap_or("").to_owned();
    let good = container["wanted"] == container["effective"] && container["obstacle"].is_null();
    let obstacle = match text("obstacle") {
        none if none.is_empty() => match text("init") {
            init if init.is_empty() || init == "protected" => none,
            reason => format!("init not protected: {reason}"),
        },
        obstacle => format!("{obstacle}: {}", text("explanation")),
    };
    let escalation = escalates.then(|| escalation(&container["escalation"]));
    let cells = [
        Cell::new(place(&named(container)), Look::Plain),
        Cell::new(text("rule"), Look::Plain),
        Cell::new(meaning(&container["wanted"]), Look::Plain),
        Cell::new(meaning(&container["effective"]), if good { Look::Good } else { Look::Bad }),
        Cell::new(number("writes"), Look::Plain),
        Cell::new(number("reverts"), Look::Plain),
    ];
    cells.into_iter().chain(escalation).chain([Cell::new(obstacle, Look::Bad)]).collect()
}

/// How far an escalation is: the kills that count of those that are asked for, and what follows.
fn escalation(escalation: &Value) -> Cell {
    let number = |key: &str| escalation[key].as_u64();
    let (Some(kills), Some(after), Some(within)) =
        (number("kills"), number("after"), number("within_seconds"))
    else {
        return Cell::new("-", Look::Plain);
    };
    let within = short(Duration::from_secs(within));
    let to = escalation["to"].as_str().unwrap_or_default();
    match escalation["state"].as_str() {
        Some("counting") | None => {
            Cell::new(format!("{kills}/{after} in {within}, then {to}"), Look::Plain)
        }
        Some(state) => Cell::new(format!("{state}, {after} in {within}"), Look::Bad),
    }
}

/// What a value of memory.oom.group does.
fn meaning(value: &Value) -> &'static str {
    match value.as_u64() {
        Some(0) => "single-process",
        Some(1) => "group",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_says_what_is_wanted_and_what_is_in_the_way() {
        let text = table(
            &[
                json!({
                    "cgroup": "/b", "owner": {"cgroup": "/b"}, "rule": "docker", "wanted": 0,
                    "effective": 1, "obstacle": "read-only", "explanation": "mount it\nread-write",
                    "writes": 0, "reverts": 0
                }),
                json!({
                    "cgroup": "/a", "owner": {"namespace": "shop", "pod": "web-0", "container": "worker"},
                    "rule": "web", "wanted": 0, "effective": 0, "obstacle": null,
                    "explanation": null, "writes": 2, "reverts": 1, "init": "protected"
                }),
                json!({
                    "cgroup": "/d", "owner": {"cgroup": "/d"}, "rule": "docker", "wanted": 0,
                    "effective": 0, "obstacle": null, "writes": 1, "reverts": 0, "init": "no-init"
                }),
                json!({"cgroup": "/c", "owner": {"cgroup": "/c"}, "rule": "g", "wanted": 1, "effective": null}),
            ],
            false,
            false,
        );
        let expected = "\
CONTAINER          RULE    WANTED          VALUE           WRITES  REVERTS  OBSTACLE
/b                 docker  single-process  group           0       0        read-only: mount it\\nread-write
/c                 g       group           -               -       -
/d                 docker  single-process  single-process  1       0        init not protected: no-init
shop/web-0/worker  web     single-process  single-process  2       1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn escalations_have_a_column_if_there_are_some() {
        let of = |path: &str, escalation: Value| {
            json!({
                "cgroup": path, "owner": {"cgroup": path}, "rule": "g", "wanted": 0, "effective": 0,
                "writes": 0, "reverts": 0, "escalation": escalation
            })
        };
        let asked = |state: &str| {
            let within = 300;
            json!({"after": 3, "within_seconds": within, "to": "restart", "kills": 2, "state": state})
        };
        let all = [of("/a", asked("counting")), of("/b", asked("waiting")), of("/c", Value::Null)];
        let text = table(&all, false, false);
        let lines: Vec<_> = text.lines().map(|line| line.split("  0  ").last().unwrap()).collect();
        assert!(lines[0].contains("REVERTS  ESCALATION"), "{text}");
        for (line, expected) in
            lines[1..].iter().zip(["2/3 in 5m, then restart", "waiting, 3 in 5m", "-"])
        {
            assert_eq!(line.trim(), expected, "{text}");
        }
    }
}
