//! Which containers have most OOM kills.

use crate::{MOST_ROWS, agents::Agent};
use herder_agent::cli::client::{
    kills::place,
    table::{Cell, Look},
    time::ago,
};
use serde_json::{Value, json};
use std::{cmp::Reverse, collections::HashMap, time::SystemTime};

#[derive(Default)]
pub(crate) struct Top {
    counts: HashMap<(String, String), Count>,
    left_out: usize,
}

#[derive(Default)]
struct Count {
    kinds: [u64; 3],
    survived: u64,
    last: String,
}

/// In the order of [`Count::kinds`].
const KINDS: [&str; 3] = ["subprocess", "init", "group"];

impl Top {
    pub(crate) fn add(&mut self, agent: &Agent, kill: &Value) {
        let container = (place(kill), agent.node.clone());
        if self.counts.len() >= MOST_ROWS && !self.counts.contains_key(&container) {
            self.left_out += 1;
            return;
        }
        let count = self.counts.entry(container).or_default();
        for (number, kind) in count.kinds.iter_mut().zip(KINDS) {
            *number += u64::from(kill["kind"] == kind);
        }
        count.survived += u64::from(kill["survived"] == true);
        let time = kill["time"].as_str().unwrap_or_default();
        if *count.last < *time {
            time.clone_into(&mut count.last);
        }
    }

    /// Kills in containers for which there was no room.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Those with most kills first.
    pub(crate) fn rows(self, most: usize) -> Vec<Value> {
        let kills = |count: &Count| count.kinds.iter().sum::<u64>();
        let mut all: Vec<_> = self.counts.into_iter().collect();
        all.sort_by(|(one, first), (other, second)| {
            (Reverse(kills(first)), one).cmp(&(Reverse(kills(second)), other))
        });
        all.truncate(most);
        let row = |((container, node), count): ((String, String), Count)| {
            let [subprocess, init, group] = count.kinds;
            json!({
                "container": container, "node": node, "kills": subprocess + init + group,
                "subprocess": subprocess, "init": init, "group": group,
                "survived": count.survived, "last": count.last,
            })
        };
        all.into_iter().map(row).collect()
    }
}

/// The rows as they are printed, under a head.
pub(crate) fn table(rows: &[Value]) -> Vec<Vec<Cell>> {
    let head = ["KILLS", "SUBPROCESS", "INIT", "GROUP", "SURVIVED", "LAST", "NODE", "CONTAINER"];
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or("-");
        let numbers = ["kills", "subprocess", "init", "group", "survived"];
        let numbers = numbers.map(|key| Cell::new(row[key].to_string(), Look::Plain));
        let last = Cell::new(ago(text("last"), SystemTime::now()), Look::Dim);
        let names = ["node", "container"].map(|key| Cell::new(text(key), Look::Plain));
        numbers.into_iter().chain([last]).chain(names).collect()
    };
    let head = head.map(|name| Cell::new(name, Look::Head)).to_vec();
    [head].into_iter().chain(rows.iter().map(row)).collect()
}
