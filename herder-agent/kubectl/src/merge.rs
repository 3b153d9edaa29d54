//! The last kills of all nodes, of which never more are kept than are printed.

use serde_json::Value;

pub(crate) struct Newest {
    most: usize,
    kills: Vec<Value>,
}

impl Newest {
    pub(crate) fn new(most: usize) -> Self {
        Newest { most, kills: Vec::new() }
    }

    pub(crate) fn add(&mut self, kills: impl Iterator<Item = Value>) {
        self.kills.extend(kills);
        // All agents write times alike, so that texts sort as times do; nodes' clocks may differ.
        self.kills.sort_by(|one, other| key(other).cmp(&key(one)));
        self.kills.truncate(self.most);
    }

    /// They, the newest at the end, where the eye is.
    pub(crate) fn oldest_first(mut self) -> Vec<Value> {
        self.kills.reverse();
        self.kills
    }
}

fn key(kill: &Value) -> (&str, &str, u64) {
    let text = |name: &str| kill[name].as_str().unwrap_or_default();
    (text("time"), text("node"), number(kill))
}

/// The number that its agent gave a kill.
pub(crate) fn number(kill: &Value) -> u64 {
    kill["id"].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_of_all_nodes_are_kept() {
        let kill = |second: u64, node: &str| json!({"id": second, "time": format!("2026-01-01T00:00:0{second}.000Z"), "node": node});
        let mut newest = Newest::new(3);
        newest.add([kill(5, "a"), kill(1, "a")].into_iter());
        newest.add([kill(4, "b"), kill(2, "b"), kill(1, "b")].into_iter());
        newest.add([].into_iter());
        let kept: Vec<_> = newest.oldest_first().iter().map(number).collect();
        assert_eq!(kept, [2, 4, 5]);
    }
}
