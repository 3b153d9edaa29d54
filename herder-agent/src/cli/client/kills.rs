//! Kills as a table: victim, container, size, and whether the container survived.

use super::{
    table::{Cell, Columns, Look},
    time::{ago, size},
};
use serde_json::Value;
use std::time::SystemTime;

/// The table, which `--follow` adds to.
#[derive(Debug, Default)]
pub struct Kills {
    columns: Columns,
    begun: bool,
    nodes: bool,
}

const HEAD: [&str; 9] =
    ["AGE", "KIND", "WHERE", "VICTIM", "PID", "MEMORY", "LIMIT", "RULE", "SURVIVED"];

impl Kills {
    /// With `nodes`, it has a column for each kill's `node`.
    pub fn new(nodes: bool) -> Self {
        Kills { nodes, ..Kills::default() }
    }

    /// Lines for these kills, under a head the first time.
    pub fn more(&mut self, kills: &[Value], now: SystemTime, colours: bool) -> String {
        let mut rows = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let nodes = self.nodes.then_some("NODE");
            let head = nodes.into_iter().chain(HEAD);
            rows.push(head.map(|name| Cell::new(name, Look::Head)).collect());
        }
        rows.extend(kills.iter().map(|kill| {
            let node =
                self.nodes.then(|| Cell::new(kill["node"].as_str().unwrap_or("-"), Look::Plain));
            node.into_iter().chain(row(kill, now)).collect()
        }));
        self.columns.lines(&rows, colours)
    }
}

fn row(kill: &Value, now: SystemTime) -> Vec<Cell> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().map_or("-".to_owned(), |number| number.to_string());
    let victim = &kill["victim"];
    let look = match kill["survived"].as_bool() {
        Some(true) => Look::Good,
        Some(false) => Look::Bad,
        None => Look::Plain,
    };
    vec![
        Cell::new(ago(&text(&kill["time"]), now), Look::Dim),
        Cell::new(text(&kill["kind"]), look),
        Cell::new(place(kill), Look::Plain),
        Cell::new(text(&victim["comm"]), Look::Plain),
        Cell::new(number(&victim["pid"]), Look::Plain),
        Cell::new(memory(victim), Look::Plain),
        Cell::new(limit(kill), Look::Plain),
        Cell::new(text(&kill["rule"]), Look::Plain),
        Cell::new(survived(kill), look),
    ]
}

/// What a victim held.
pub(super) fn memory(victim: &Value) -> String {
    let memory =
        ["anon_rss", "file_rss", "shmem_rss"].iter().filter_map(|key| victim[*key].as_u64());
    memory.reduce(u64::saturating_add).map_or("-".to_owned(), size)
}

/// Whose limit mattered, and how large it is. The container's is the smaller one, also
/// where the pod's was hit first, or one inside of the container.
pub(super) fn limit(kill: &Value) -> String {
    let whose = kill["limit"].as_str().unwrap_or("-");
    let (hit, own) = (kill["limit_bytes"].as_u64(), kill["container_limit_bytes"].as_u64());
    let bytes = match whose {
        "container" => hit.into_iter().chain(own).min(),
        "pod" => hit,
        _ => None,
    };
    bytes.map_or(whose.to_owned(), |bytes| format!("{whose} {}", size(bytes)))
}

/// The container, by its names or else its cgroup; the pod, where it is none of its
/// containers, or not known which.
pub fn place(one: &Value) -> String {
    match ["namespace", "pod", "container"].map(|key| one[key].as_str()) {
        [Some(namespace), Some(pod), Some("")] => format!("{namespace}/{pod}"),
        [Some(namespace), Some(pod), Some(container)] => format!("{namespace}/{pod}/{container}"),
        _ => one["cgroup"].as_str().unwrap_or("unknown").to_owned(),
    }
}

/// Whether the container lived on, which is known some seconds later, or when it ends.
pub(super) fn survived(kill: &Value) -> String {
    match kill["survived"].as_bool() {
        Some(true) => return "yes".to_owned(),
        None => return "not known yet".to_owned(),
        Some(false) => {}
    }
    let mut text = "no".to_owned();
    let processes = kill["processes"].as_u64().filter(|processes| *processes > 1);
    text.extend(processes.map(|processes| format!(", {processes} processes")));
    // A container that the kill itself took has no such number.
    let later = kill["ended_seconds"].as_f64();
    text.extend(later.map(|seconds| format!(", ended {seconds:.1}s later")));
    let exiting = kill["exiting"].as_u64().filter(|exiting| *exiting > 0);
    text.extend(exiting.map(|exiting| format!(", {exiting} others still exiting")));
    if kill["restarted"].is_object() {
        text += ", restarted";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    fn kill(kind: &str, comm: &str) -> Value {
        json!({
            "id": 1, "time": "1970-01-01T00:01:00.000Z", "kind": kind, "limit": "container",
            "namespace": "shop", "pod": "web-0", "container": "worker", "cgroup": "/c", "rule": "web",
            "processes": if kind == "group" { 3 } else { 1 },
            "survived": kind == "subprocess", "victim": {"comm": comm, "pid": 4711, "anon_rss": 93_323_264, "file_rss": 4096}
        })
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(90)
    }

    #[test]
    fn the_table_answers_who_where_how_big_and_did_it_survive() {
        let mut host = kill("group", "hog");
        host["namespace"] = Value::Null;
        host["rule"] = Value::Null;
        let mut restarted = kill("init", "postgres");
        restarted["restarted"] = json!({"reason": "OOMKilled"});
        restarted["exiting"] = json!(2);
        let mut unknown = kill("subprocess", "x");
        unknown["victim"] = json!({"comm": "x", "pid": 1});
        unknown["survived"] = Value::Null;
        let mut stopped = kill("subprocess", "gunicorn");
        stopped["survived"] = json!(false);
        stopped["ended_seconds"] = json!(0.41);
        unknown["limit_bytes"] = json!(256 << 20);
        unknown["container_limit_bytes"] = json!(128 << 20);
        host["limit"] = json!("pod");
        host["limit_bytes"] = json!(256 << 20);
        let mut sandbox = kill("init", "sentry");
        sandbox["container"] = json!("");
        let text = Kills::default().more(
            &[kill("subprocess", "gunicorn"), host, restarted, unknown, sandbox, stopped],
            now(),
            false,
        );
        let expected = "\
AGE      KIND        WHERE              VICTIM    PID   MEMORY  LIMIT             RULE  SURVIVED
30s ago  subprocess  shop/web-0/worker  gunicorn  4711  89MiB   container         web   yes
30s ago  group       /c                 hog       4711  89MiB   pod 256MiB        -     no, 3 processes
30s ago  init        shop/web-0/worker  postgres  4711  89MiB   container         web   no, 2 others still exiting, restarted
30s ago  subprocess  shop/web-0/worker  x         1     -       container 128MiB  web   not known yet
30s ago  init        shop/web-0         sentry    4711  89MiB   container         web   no
30s ago  subprocess  shop/web-0/worker  gunicorn  4711  89MiB   container         web   no, ended 0.4s later
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_a_victim_calls_itself_cannot_harm_the_terminal() {
        let text =
            Kills::default().more(&[kill("group", "a\x1b[2J\n\u{202e}b\u{9b}")], now(), true);
        assert!(text.contains(r"a\u{1b}[2J\n\u{202e}b\u{9b}"), "{text}");
        assert_eq!(text.lines().count(), 2);
        let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m"];
        let rest = own.iter().fold(text, |text, code| text.replace(code, ""));
        assert!(!rest.contains('\x1b'), "{rest:?}");
    }

    #[test]
    fn colours_change_no_column_and_what_follows_stays_in_line() {
        let mut table = Kills::default();
        let first = table.more(&[kill("subprocess", "a-long-name")], now(), true);
        let second = table.more(&[kill("group", "b")], now(), false);
        let plain = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m"]
            .iter()
            .fold(first, |text, code| text.replace(code, ""));
        assert_eq!(plain.lines().nth(1).unwrap().find("4711"), second.find("4711"));
        assert_eq!(second.lines().count(), 1, "no second head");
    }
}
