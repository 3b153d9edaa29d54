//! Kills seen, and told of the right container.

use super::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    let mut found = Vec::new();
    let mut all_right = true;
    let (stopped, all): (Vec<_>, Vec<_>) =
        figures.iter().partition(|figure| figure["kind"] == "stopped");
    for figure in all {
        let (kind, program) = (text(figure, "kind")?, text(figure, "program")?);
        let count = |name| number(figure, name);
        let (kills, right) = (count("kills")?, count("told right")?);
        // It counts processes, and cannot say which of them died of one kill.
        let told =
            if program == "node_exporter" { "–".into() } else { count("told")?.to_string() };
        rows.push(vec![
            format!("{program}, {kills} kills of {kind}, {:.0} s", count("seconds")?),
            told,
            format!("{} of {}", count("told processes")?, count("processes")?),
            format!("{right} ({:.1} %)", right / kills * 100.0),
        ]);
        if program == "herder" {
            let (seen, processes) = (count("told")?, count("told processes")?);
            all_right &= [seen, right] == [kills; 2] && processes == count("processes")?;
            found.push(format!("{right} of {kills} by {kind}"));
        }
    }
    found.first().context("Herder was not measured")?;
    let mut limit = String::new();
    for figure in stopped {
        let count = |name| number(figure, name);
        let (kills, right, lost) = (count("kills")?, count("told right")?, count("lost")?);
        all_right &= right + lost == kills;
        limit = format!(
            " Its limit: stopped (SIGSTOP) during {kills} kills of sub-processes, Herder told {right} of them when it went on, from its buffer \
             of 512 KiB, and counted {lost} as lost."
        );
    }
    let columns = ["", "kills seen", "processes seen", "told of the right container"];
    Ok(Section {
        title: "Kills seen and attributed",
        goal: "100 %",
        found: found.join(", "),
        // Of both kinds, or it is not known.
        reached: (found.len() > 1 || !all_right).then_some(all_right),
        body: format!(
            "All programs run at once and see the same kills: sub-processes of 50 pods' containers, killed as fast as the kernel does it, every \
             fifth container's with five threads each; then containers killed whole, 20 processes each. What the parents reaped is the truth; \
             `oom_kill` of /proc/vmstat, which node_exporter shows, has the first victim of a group twice. The \
             kernel writes a kill's container into its log ten times in five seconds at most, and cAdvisor reads that log.{limit}\n\n{}",
            table(&columns, rows)
        ),
    })
}
