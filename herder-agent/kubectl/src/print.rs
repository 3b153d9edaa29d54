//! Standard output in the chosen format.

use crate::fault::Error;
use herder_agent::cli::{
    args::Output,
    client::{
        containers,
        kills::Kills,
        table::{Cell, Columns, Look, json},
        time::ago,
    },
    telemetry::colours,
};
use serde_json::Value;
use std::{
    io::{self, Write},
    time::SystemTime,
};

pub(crate) struct Printer {
    output: Output,
    colours: bool,
    kills: Kills,
}

impl Printer {
    pub(crate) fn new(output: Output) -> Self {
        Printer { output, colours: colours(), kills: Kills::of_nodes() }
    }

    pub(crate) fn kills(&mut self, kills: &[Value]) -> Result<(), Error> {
        print(&match self.output {
            Output::Json => json(kills),
            Output::Table => self.kills.more(kills, SystemTime::now(), self.colours),
        })
    }

    pub(crate) fn containers(&self, containers: &[Value]) -> Result<(), Error> {
        print(&match self.output {
            Output::Json => json(containers),
            Output::Table => containers::table(containers, self.colours, true),
        })
    }

    pub(crate) fn top(&self, rows: &[Value]) -> Result<(), Error> {
        print(&match self.output {
            Output::Json => json(rows),
            Output::Table => top(rows, self.colours),
        })
    }
}

/// Something that is not part of the answer.
pub(crate) fn note(text: &str) -> Result<(), Error> {
    Ok(writeln!(io::stderr(), "kubectl-herder: {text}")?)
}

fn top(rows: &[Value], colours: bool) -> String {
    let head = ["KILLS", "SUBPROCESS", "INIT", "GROUP", "SURVIVED", "LAST", "NODE", "CONTAINER"];
    let row = |row: &Value| {
        let number = |key: &str| Cell::new(row[key].to_string(), Look::Plain);
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        vec![
            number("kills"),
            number("subprocess"),
            number("init"),
            number("group"),
            number("survived"),
            Cell::new(ago(&text("last"), SystemTime::now()), Look::Dim),
            Cell::new(text("node"), Look::Plain),
            Cell::new(text("container"), Look::Plain),
        ]
    };
    let head = head.map(|name| Cell::new(name, Look::Head)).to_vec();
    let rows: Vec<_> = [head].into_iter().chain(rows.iter().map(row)).collect();
    Columns::default().lines(&rows, colours)
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
