//! Kills as a table: victim, container, size, and whether the container survived.

use super::{
    table::{Cell, Columns, Look},
    time::{ago, size},
};
use serde_json::Value;
use std::time::SystemTime;

/// A column: its head, and the cell of a kill.
pub type Column = (&'static str, fn(&Value, SystemTime) -> Cell);

const NODE: Column = ("NODE", |kill, _| plain(&kill["node"]));
const AGE: Column =
    ("AGE", |kill, now| Cell::new(ago(kill["time"].as_str().unwrap_or("-"), now), Look::Dim));
const KIND: Column = ("KIND", |kill, _| Cell::new(text(&kill["kind"]), look(kill)));
const WHERE: Column = ("WHERE", |kill, _| Cell::new(place(kill), Look::Plain));
const CONTAINER: Column = ("CONTAINER", |kill, _| plain(&kill["container"]));
const VICTIM: Column = ("VICTIM", |kill, _| of_victim(kill, "comm"));
const PID: Column = ("PID", |kill, _| of_victim(kill, "pid"));
const NSPID: Column = ("NSPID", |kill, _| of_victim(kill, "ns_pid"));
const MEMORY: Column = ("MEMORY", |kill, _| Cell::new(memory(&kill["victim"]), Look::Plain));
const LIMIT: Column = ("LIMIT", |kill, _| Cell::new(limit(kill), Look::Plain));
const RULE: Column = ("RULE", |kill, _| plain(&kill["rule"]));
const SURVIVED: Column = ("SURVIVED", |kill, _| Cell::new(survived(kill), look(kill)));

/// Of an agent's kills.
pub const OF_NODE: &[Column] = &[AGE, KIND, WHERE, VICTIM, PID, MEMORY, LIMIT, RULE, SURVIVED];

/// Of those of several agents.
pub const OF_NODES: &[Column] =
    &[NODE, AGE, KIND, WHERE, VICTIM, PID, MEMORY, LIMIT, RULE, SURVIVED];

/// Of a pod's own kills: what the pod knows its processes by.
pub const OF_POD: &[Column] = &[AGE, KIND, CONTAINER, VICTIM, NSPID, MEMORY, LIMIT, SURVIVED];

/// The table, which `--follow` adds to.
#[derive(Debug)]
pub struct Kills {
    columns: &'static [Column],
    widths: Columns,
    begun: bool,
}

impl Kills {
    pub fn new(columns: &'static [Column]) -> Self {
        Kills { columns, widths: Columns::default(), begun: false }
    }

    /// Lines for these kills, under a head the first time.
    pub fn more(&mut self, kills: &[Value], now: SystemTime, colours: bool) -> String {
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            rows.push(self.columns.iter().map(|(head, _)| Cell::new(head, Look::Head)).collect());
        }
        let row = |kill| self.columns.iter().map(|(_, cell)| cell(kill, now)).collect();
        rows.extend(kills.iter().map(row));
        self.widths.lines(&rows, colours)
    }
}

/// What is not known, or has no name, is a dash.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    }
}

fn plain(value: &Value) -> Cell {
    Cell::new(text(value), Look::Plain)
}

fn of_victim(kill: &Value, key: &str) -> Cell {
    let victim = &kill["victim"];
    plain(&victim[key])
}

fn look(kill: &Value) -> Look {
    match kill["survived"].as_bool() {
        Some(true) => Look::Good,
        Some(false) => Look::Bad,
        None => Look::Plain,
    }
}

/// What a victim held.
fn memory(victim: &Value) -> String {
    let memory =
        ["anon_rss", "file_rss", "shmem_rss"].iter().filter_map(|key| victim[*key].as_u64());
    memory.reduce(u64::saturating_add).map_or("-".to_owned(), size)
}

/// Whose limit mattered, and how large it is. The container's is the smaller one, also
/// where the pod's was hit first, or one inside of the container.
fn limit(kill: &Value) -> String {
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
fn survived(kill: &Value) -> String {
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
        let text = Kills::new(OF_NODE).more(
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
            Kills::new(OF_NODE).more(&[kill("group", "a\x1b[2J\n\u{202e}b\u{9b}")], now(), true);
        assert!(text.contains(r"a\u{1b}[2J\n\u{202e}b\u{9b}"), "{text}");
        assert_eq!(text.lines().count(), 2);
        let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m"];
        let rest = own.iter().fold(text, |text, code| text.replace(code, ""));
        assert!(!rest.contains('\x1b'), "{rest:?}");
    }

    #[test]
    fn colours_change_no_column_and_what_follows_stays_in_line() {
        let mut table = Kills::new(OF_NODE);
        let first = table.more(&[kill("subprocess", "a-long-name")], now(), true);
        let second = table.more(&[kill("group", "b")], now(), false);
        let plain = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m"]
            .iter()
            .fold(first, |text, code| text.replace(code, ""));
        assert_eq!(plain.lines().nth(1).unwrap().find("4711"), second.find("4711"));
        assert_eq!(second.lines().count(), 1, "no second head");
    }
}
