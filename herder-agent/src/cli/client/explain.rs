//! One kill with its scene: what happened, why, and who used how much.

use super::{
    kills::place,
    table::{Cell, Columns, Look},
    time::{ago, size},
};
use serde_json::Value;
use std::time::SystemTime;

/// What the files of a cgroup say, by the names of the API's fields.
const FIGURES: [(&str, &str); 13] = [
    ("in use", "current"),
    ("peak", "peak"),
    ("anonymous", "anon"),
    ("page cache, tmpfs", "file"),
    ("tmpfs, shared", "shmem"),
    ("dirty", "file_dirty"),
    ("under writeback", "file_writeback"),
    ("unevictable", "unevictable"),
    ("kernel", "kernel"),
    ("slab", "slab"),
    ("page tables", "page_tables"),
    ("sockets", "sock"),
    ("swap", "swap"),
];

/// All of it as text.
pub fn text(kill: &Value, now: SystemTime, colours: bool) -> String {
    let scene = &kill["scene"];
    let mut blocks = vec![head(kill, now, colours)];
    let block = |rows: Vec<Vec<Cell>>| (rows.len() > 1).then(|| lines(&rows, colours));
    if scene.is_null() {
        let why = "What was used is not kept: the agent has it for the last 100 kills.";
        blocks.push(lines(&[vec![Cell::new(why, Look::Dim)]], colours));
        blocks.extend(block(arguments(kill)));
        return blocks.join("\n");
    }
    blocks.push(limits(kill, colours));
    blocks.extend(block(arguments(kill)));
    blocks.extend(block(candidates(scene)).map(|text| text + &smaller(scene, colours)));
    blocks.extend([figures, containers, missing].iter().filter_map(|of| block(of(scene))));
    blocks.join("\n")
}

fn lines(rows: &[Vec<Cell>], colours: bool) -> String {
    Columns::default().lines(rows, colours)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bytes(value: &Value) -> Cell {
    Cell::new(value.as_u64().map_or("-".to_owned(), size), Look::Plain)
}

/// Which kill it is, and what its scene shows.
fn head(kill: &Value, now: SystemTime, colours: bool) -> String {
    let what = format!(
        "Kill {}, {}: {} in {}",
        text_of(&kill["id"]),
        ago(&text_of(&kill["time"]), now),
        text_of(&kill["kind"]),
        place(kill)
    );
    let mut rows = vec![vec![Cell::new(what, Look::Head)]];
    if let Some(finding) = kill.pointer("/scene/finding/text").and_then(Value::as_str) {
        rows.push(vec![Cell::new(finding, Look::Plain)]);
    }
    lines(&rows, colours)
}

/// Whose limit it was, how much of it was used, and who died.
fn limits(kill: &Value, colours: bool) -> String {
    let scene = &kill["scene"];
    let used = |usage: &Value| {
        let used = usage["usage"].as_u64().map(size)?;
        Some(match usage["limit"].as_u64() {
            Some(limit) => format!("{used} of {}", size(limit)),
            None => format!("{used}, no limit"),
        })
    };
    let whose = match kill["limit_cgroup"].as_str() {
        Some(cgroup) => format!("{} ({cgroup})", text_of(&kill["limit"])),
        None => text_of(&kill["limit"]),
    };
    let victim = &kill["victim"];
    let died = match victim["pid"].as_u64() {
        Some(pid) => format!(
            "{} (pid {pid}, oom_score_adj {})",
            text_of(&victim["comm"]),
            text_of(&victim["oom_score_adj"])
        ),
        None => "not known".to_owned(),
    };
    let processes = kill["processes"].as_u64().filter(|processes| *processes > 1);
    let died = processes.map_or(died.clone(), |count| format!("{died}, {count} processes in all"));
    let rows = [
        ("limit", Some(whose)),
        ("memory", used(&scene["memory"])),
        ("swap", used(&scene["swap"])),
        ("victim", Some(died)),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|(name, value)| {
            Some(vec![Cell::new(name, Look::Dim), Cell::new(value?, Look::Plain)])
        })
        .collect();
    lines(&rows, colours)
}

/// What the command lines of the victims said when they died, where their rule asks for that.
fn arguments(kill: &Value) -> Vec<Vec<Cell>> {
    let mut rows =
        vec![["PID", "ARGUMENTS AT DEATH"].map(|name| Cell::new(name, Look::Head)).to_vec()];
    for one in kill["arguments"].as_array().map_or(&[][..], Vec::as_slice) {
        let shown = match one["text"].as_str() {
            Some(text) if one["cut"] == true => Cell::new(format!("{text} …"), Look::Plain),
            Some(text) => Cell::new(text, Look::Plain),
            None => Cell::new(format!("not known: {}", text_of(&one["missing"])), Look::Dim),
        };
        rows.push(vec![Cell::new(text_of(&one["pid"]), Look::Plain), shown]);
    }
    rows
}

/// The processes that the kernel looked at.
fn candidates(scene: &Value) -> Vec<Vec<Cell>> {
    let head = ["PROCESS", "PID", "SIZE", "ANON", "FILE", "SHMEM", "SWAP", "TABLES", "ADJ", "OF"];
    let mut rows = vec![head.map(|name| Cell::new(name, Look::Head)).to_vec()];
    let listed = scene["candidates"].as_array().map_or(&[][..], Vec::as_slice);
    for process in listed {
        let killed = process["killed"] == true;
        let look = if killed { Look::Bad } else { Look::Plain };
        let owner = [&process["owner"], &process["cgroup"]];
        let owner = owner.into_iter().find(|owner| owner.is_string()).unwrap_or(&Value::Null);
        let mark = if killed { ", killed" } else { "" };
        let sizes = ["size", "anon_rss", "file_rss", "shmem_rss", "swap", "page_tables"];
        let mut row = vec![
            Cell::new(text_of(&process["comm"]), look),
            Cell::new(text_of(&process["pid"]), Look::Plain),
        ];
        row.extend(sizes.map(|part| bytes(&process[part])));
        row.push(Cell::new(text_of(&process["oom_score_adj"]), Look::Plain));
        row.push(Cell::new(format!("{}{mark}", text_of(owner)), look));
        rows.push(row);
    }
    rows
}

/// How many are not listed, if some are not.
fn smaller(scene: &Value, colours: bool) -> String {
    let listed = scene["candidates"].as_array().map_or(0, Vec::len);
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    let more = scene["looked_at"].as_u64().and_then(|all| all.checked_sub(listed));
    more.filter(|more| *more > 0).map_or_else(String::new, |more| {
        lines(&[vec![Cell::new(format!("and {more} smaller ones"), Look::Dim)]], colours)
    })
}

/// What the files of the container and of the limit's cgroup say.
fn figures(scene: &Value) -> Vec<Vec<Cell>> {
    let after = scene["read_seconds"].as_f64().map(|seconds| seconds * 1000.0);
    let after = after.map_or("FILES".to_owned(), |after| format!("FILES, {after:.0} ms LATER"));
    let of: Vec<_> = [("CONTAINER", &scene["container"]), ("LIMIT'S CGROUP", &scene["domain"])]
        .into_iter()
        .filter(|(_, figures)| figures.is_object())
        .collect();
    let mut head = vec![Cell::new(after, Look::Head)];
    head.extend(of.iter().map(|(name, _)| Cell::new(name, Look::Head)));
    let mut rows = vec![head];
    for (name, field) in FIGURES {
        if of.iter().any(|(_, figures)| figures[field].is_u64()) {
            let mut row = vec![Cell::new(name, Look::Dim)];
            row.extend(of.iter().map(|(_, figures)| bytes(&figures[field])));
            rows.push(row);
        }
    }
    if of.iter().any(|(_, figures)| figures["pids"].is_u64()) {
        let mut row = vec![Cell::new("processes and threads", Look::Dim)];
        let pids = |figures: &Value| Cell::new(text_of(&figures["pids"]), Look::Plain);
        row.extend(of.iter().map(|(_, figures)| pids(figures)));
        rows.push(row);
    }
    rows
}

/// The containers of a full node.
fn containers(scene: &Value) -> Vec<Vec<Cell>> {
    let head = ["MOST MEMORY OF THE NODE", "IN USE", "REQUESTS", "LIMIT"];
    let mut rows = vec![head.map(|name| Cell::new(name, Look::Head)).to_vec()];
    for container in scene["containers"].as_array().map_or(&[][..], Vec::as_slice) {
        let mut row = vec![Cell::new(text_of(&container["owner"]), Look::Plain)];
        row.extend(["memory", "request", "limit"].map(|part| bytes(&container[part])));
        rows.push(row);
    }
    rows
}

/// What is not known, and why.
fn missing(scene: &Value) -> Vec<Vec<Cell>> {
    let mut rows = vec![vec![Cell::new("NOT KNOWN", Look::Head)]];
    for one in scene["missing"].as_array().map_or(&[][..], Vec::as_slice) {
        let cells = [("what", Look::Dim), ("why", Look::Plain)];
        rows.push(cells.map(|(key, look)| Cell::new(text_of(&one[key]), look)).to_vec());
    }
    rows
}

#[cfg(test)]
mod tests;
