//! Kills seen, and attributed to the right container.

use super::section::{Reached, Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    let mut found = Vec::new();
    let mut all_right = true;
    let of_kind = |kind: &'static str| figures.iter().filter(move |figure| figure["kind"] == kind);
    let all = figures
        .iter()
        .filter(|figure| !["stopped", "nobody looks"].map(Value::from).contains(&figure["kind"]));
    for figure in all {
        let (kind, program) = (text(figure, "kind")?, text(figure, "program")?);
        let count = |name| number(figure, name);
        let (kills, right) = (count("kills")?, count("told right")?);
        // It counts processes, and cannot say which of them died of one kill.
        let reported =
            if program == "node_exporter" { "–".into() } else { count("told")?.to_string() };
        rows.push(vec![
            format!("{program}, {kills} kills of {kind}, {:.0} s", count("seconds")?),
            reported,
            format!("{} of {}", count("told processes")?, count("processes")?),
            format!("{right} ({:.1} %)", right / kills * 100.0),
        ]);
        if program == "herder" {
            let (seen, processes) = (count("told")?, count("told processes")?);
            let (log, api) = (count("right in the log")?, count("right in the stream")?);
            all_right &= [seen, right, log, api] == [kills; 4] && processes == count("processes")?;
            all_right &= figure["untold"] == json!([0, 0, 0]);
            found.push(format!("{right} of {kills} by {kind}"));
        }
    }
    found.first().context("Herder was not measured")?;
    let mut limit = String::new();
    for figure in of_kind("nobody looks") {
        let rate = number(figure, "kills")? / number(figure, "seconds")?;
        limit = format!(
            " Without any observer the kernel kills {rate:.0} processes a second here, so the goal of 1,000 kills a second could not be tried."
        );
    }
    for figure in of_kind("stopped") {
        let count = |name| number(figure, name);
        let (kills, right) = (count("kills")?, count("told right")?);
        let (lost, unseen) = (count("lost")?, count("unseen")?);
        all_right &= right + lost == kills && lost == unseen;
        let _ = write!(
            limit,
            " In a test of the limit, Herder was stopped (SIGSTOP) during {kills} kills of sub-processes. When it continued, it reported {right} of \
             them from its buffer of 512 KiB. It counted {lost} as lost, and {unseen} as unseen, because the kernel's counts showed them."
        );
    }
    let columns = ["", "kills seen", "processes seen", "attributed to the right container"];
    Ok(Section {
        title: "Kills seen and attributed",
        goal: "100 %",
        found: found.join(", "),
        // Of both kinds, or it is not known.
        reached: match (all_right, found.len()) {
            (false, _) => Reached::No,
            (true, 0 | 1) => Reached::Unknown,
            (true, _) => Reached::Yes,
        },
        body: format!(
            "All programs run at once and see the same kills. First, sub-processes in the containers of 50 pods are killed as fast as the kernel can; \
             in every fifth container they have five threads each. Then whole containers are killed, 20 processes each. The truth is what the parents \
             reaped; each container's memory.events agrees with it. Herder's reports must also have the right kind and limit, and each kill must be \
             in its metrics, its log and the stream of its API. node_exporter shows `oom_kill` of /proc/vmstat, which counts the first victim of a \
             group twice. cAdvisor reads the kernel log, in which the kernel names the container of at most ten kills in five seconds.{limit}\n\n{}",
            table(&columns, rows)
        ),
    })
}
