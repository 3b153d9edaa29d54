//! The page: the goals, what was measured, and the conditions.

mod busy;
mod candidates;
mod compared;
mod events;
mod idle;
mod memory;
mod native;
mod overhead;
mod protect_init;
mod ready;
mod section;
mod seen;
mod shown;
mod soak;
mod starts;
mod victim_arguments;

use anyhow::{Context, Result, bail};
use section::Section;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write};

const HEAD: &str = "\
# Benchmarks

*For people who want figures, beside those of other programs, with the conditions under which they were measured.*

`cargo xtask bench` makes this page from [benchmarks.json](benchmarks.json), which has all figures. Herder and other programs that do a part of the
same work run in one guest, with Debian's kernel and packages, emulated in software by QEMU. Everything takes many times as long as on a
real machine, so **compare the programs with each other**. Other programs run as their packages ship them.

*Counted* means that time is counted in instructions (QEMU's `-icount`): the guest has one processor, its clock advances one nanosecond with each instruction, and it jumps when
there is nothing to do. A millisecond is a million instructions of everything that runs, the kernel and other programs included. Such a counted
millisecond is the same on every host. It is about as long as one on a 1 GHz processor that never waits for memory.
";

/// Makes a section of a measure's figures.
type Make = fn(&[Value]) -> Result<Section>;

/// The sections in their order on the page.
const SECTIONS: &[(&str, Make)] = &[
    ("memory", memory::section),
    ("shown", shown::section),
    ("seen", seen::section),
    ("starts", starts::section),
    ("busy", busy::section),
    ("ready", ready::section),
    ("scrape", native::scrape),
    ("idle", idle::section),
    ("overhead", overhead::section),
    ("protect-init", protect_init::section),
    ("victim-arguments", victim_arguments::section),
    ("candidates", candidates::section),
    ("events", events::section),
    ("sizes", native::sizes),
    ("soak", soak::section),
];

/// The measures in the same order.
#[cfg(test)]
pub fn names() -> Vec<&'static str> {
    SECTIONS.iter().map(|(name, _)| *name).collect()
}

/// The page of all measures.
pub fn page(kept: &BTreeMap<String, Value>) -> Result<String> {
    let there = SECTIONS.iter().filter_map(|(name, _)| Some((*name, kept.get(*name)?)));
    let sections: Vec<_> = there
        .map(|(name, result)| anyhow::Ok((section(name, result)?, result)))
        .collect::<Result<_>>()?;
    let mut page = format!("{HEAD}\n| measure | goal | measured | |\n|---|---|---|---|\n");
    for (Section { title, goal, found, reached, .. }, _) in &sections {
        writeln!(page, "| {title} | {goal} | {found} | {reached} |")?;
    }
    for (section, result) in &sections {
        writeln!(page, "\n## {}\n\n{}\n{}", section.title, section.body, circumstances(result))?;
    }
    Ok(page)
}

/// One measure's part of the page.
pub fn of(name: &str, result: &Value) -> Result<String> {
    let section = section(name, result)?;
    let Section { title, goal, found, body, .. } = section;
    Ok(format!("{title}: goal {goal}; measured {found}\n\n{body}\n{}", circumstances(result)))
}

fn section(name: &str, result: &Value) -> Result<Section> {
    let Some((_, make)) = SECTIONS.iter().find(|(known, _)| *known == name) else {
        bail!("nothing is known about {name}")
    };
    let figures = result["figures"].as_array().with_context(|| format!("{name} has no figures"))?;
    make(figures).with_context(|| format!("the figures of {name}"))
}

fn circumstances(result: &Value) -> String {
    let about = &result["about"];
    let text = |name: &str| about[name].as_str().unwrap_or("?").to_owned();
    let revision = text("revision");
    let (revision, state) = match revision.split_once('-') {
        Some((revision, _)) => (revision, ", with uncommitted changes"),
        None => (&*revision, ""),
    };
    let revision: String = revision.chars().take(12).collect();
    let note = about["note"].as_str().map_or(String::new(), |note| format!(" Note: {note}."));
    format!(
        "Measured on {}{}: size {}, Linux {}, {} × {}, {}; load before {}; revision {revision}{state}.{note}",
        text("date"),
        if about["counted"] == true { ", counted" } else { "" },
        text("size"),
        text("kernel"),
        about["processors"],
        text("processor"),
        text("emulator").replace(" version", ""),
        text("load before"),
    )
}
