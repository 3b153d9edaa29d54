//! Standard output in the chosen format.

use super::{
    containers, explain,
    kills::{Kills, OF_NODE, OF_NODES, OF_POD},
    table::{Cell, Columns, json},
};
use crate::cli::{args::Output, telemetry::colours};
use serde_json::Value;
use std::{
    io::{self, Write},
    time::SystemTime,
};

/// Prints what agents answered.
pub struct Printer {
    output: Output,
    colours: bool,
    nodes: bool,
    kills: Kills,
}

impl Printer {
    /// With `nodes`, tables have a column for the node of each row.
    pub fn new(output: Output, nodes: bool) -> Self {
        let kills = Kills::new(if nodes { OF_NODES } else { OF_NODE });
        Printer { output, colours: colours(), nodes, kills }
    }

    /// Of what a pod is shown of its own kills.
    pub(super) fn for_pod(output: Output) -> Self {
        Printer { kills: Kills::new(OF_POD), ..Self::new(output, false) }
    }

    /// Kills, oldest first.
    pub fn kills(&mut self, kills: &[Value]) -> io::Result<()> {
        print(&match self.output {
            Output::Json => json(kills),
            Output::Table => self.kills.more(kills, SystemTime::now(), self.colours),
        })
    }

    /// A kill that was printed before, now that it is known what became of its container. Programs
    /// get it in any case; people if the container ended, which its line could not say.
    pub fn settled(&mut self, kill: &Value) -> io::Result<()> {
        let ended = kill["kind"] == "subprocess" && kill["survived"] == false;
        match self.output {
            Output::Table if !ended => Ok(()),
            _ => self.kills(std::slice::from_ref(kill)),
        }
    }

    pub fn containers(&self, containers: &[Value]) -> io::Result<()> {
        print(&match self.output {
            Output::Json => json(containers),
            Output::Table => containers::table(containers, self.colours, self.nodes),
        })
    }

    /// One kill with its scene.
    pub fn explained(&self, kill: &Value) -> io::Result<()> {
        print(&match self.output {
            Output::Json => json(std::slice::from_ref(kill)),
            Output::Table => explain::text(kill, SystemTime::now(), self.colours),
        })
    }

    /// Values of which `table` makes rows, the head among them.
    pub fn rows(
        &self,
        values: &[Value],
        table: impl FnOnce(&[Value]) -> Vec<Vec<Cell>>,
    ) -> io::Result<()> {
        print(&match self.output {
            Output::Json => json(values),
            Output::Table => Columns::default().lines(&table(values), self.colours),
        })
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
