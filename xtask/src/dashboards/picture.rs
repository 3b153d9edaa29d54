//! A picture of the dashboard, for those who read about it: its panels, where and
//! as herder.json has them, with what a real Prometheus answers on the recorded run.
//!
//! It is drawn here and not by Grafana, and says so.

use super::{
    prometheus::{self, Prometheus},
    proof, source,
};
use crate::command::say;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    fmt::Write,
    fs,
    time::{Duration, SystemTime},
};

/// The time between two of the recorded expositions.
const BETWEEN: Duration = Duration::from_secs(6);

/// Time that the panels show, and between two points of it, seconds.
const SHOWN: u64 = 66;
const STEP: u64 = 3;

/// A column and a row of Grafana's grid, pixels.
const COLUMN: f64 = 50.0;
const ROW: f64 = 24.0;

const COLOURS: [&str; 8] =
    ["#73bf69", "#f2cc0c", "#ff780a", "#8ab8ff", "#f2495c", "#b877d9", "#5794f2", "#c8f2c2"];

/// Where a panel is, pixels.
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// One line of a panel: its name, and a value for each step (none where it has none).
struct Series {
    name: String,
    values: Vec<Option<f64>>,
}

pub fn draw() -> Result<()> {
    let text = fs::read_to_string(source::directory().join("herder.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    say("Playing the recorded run at its own speed …");
    let prometheus = proof::fed(&prometheus::installed()?, "picture", BETWEEN)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let bottom =
        panels.iter().map(|panel| place(panel).y + place(panel).height).fold(0.0, f64::max);
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\" height=\"{0}\" viewBox=\"0 0 1200 {0}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#ccccdc\">",
        bottom + 20.0
    )?;
    writeln!(svg, "<rect width=\"1200\" height=\"{}\" fill=\"#111217\"/>", bottom + 20.0)?;
    for panel in panels {
        one(&mut svg, panel, &prometheus, now)?;
    }
    writeln!(
        svg,
        "<text x=\"8\" y=\"{}\" fill=\"#8e8e99\">Not drawn by Grafana: by cargo xtask dashboards --picture, from what Prometheus {} answers on the recorded run of a minute.</text>",
        bottom + 14.0,
        prometheus.version
    )?;
    svg.push_str("</svg>\n");
    let path = source::directory().join("dashboard.svg");
    fs::write(&path, svg)?;
    say(&format!("{}", path.display()));
    Ok(())
}

fn place(panel: &Value) -> Place {
    let number = |name: &str| panel["gridPos"][name].as_f64().unwrap_or(0.0);
    Place {
        x: number("x") * COLUMN,
        y: number("y") * ROW,
        width: number("w") * COLUMN,
        height: number("h") * ROW,
    }
}

fn one(svg: &mut String, panel: &Value, prometheus: &Prometheus, now: u64) -> Result<()> {
    let at = place(panel);
    let title = escaped(panel["title"].as_str().unwrap_or(""));
    if panel["type"] == "row" {
        writeln!(svg, "<text x=\"8\" y=\"{}\" font-size=\"14\">{title}</text>", at.y + 17.0)?;
        return Ok(());
    }
    writeln!(
        svg,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"#181b1f\" stroke=\"#2c3036\"/>",
        at.x + 3.0,
        at.y + 3.0,
        at.width - 6.0,
        at.height - 6.0
    )?;
    writeln!(svg, "<text x=\"{}\" y=\"{}\">{title}</text>", at.x + 12.0, at.y + 20.0)?;
    let mut series = Vec::new();
    for target in panel["targets"].as_array().context("a panel without queries")? {
        let expr = proof::filled(target["expr"].as_str().unwrap_or(""));
        let answer = if target["range"] == true {
            prometheus.query_range(&expr, now - SHOWN, now, STEP)?
        } else {
            prometheus.query(&expr)?
        };
        let legend = target["legendFormat"].as_str().unwrap_or("");
        series.extend(answer.iter().map(|one| read(one, legend, now)));
    }
    // Grafana leaves out what is 0 all the time no more than this does, but here
    // there is less room.
    let inner =
        Place { x: at.x + 12.0, y: at.y + 28.0, width: at.width - 24.0, height: at.height - 40.0 };
    match panel["type"].as_str() {
        Some("stat") => stats(svg, &inner, &series),
        Some("heatmap") => heat(svg, &inner, &mut series),
        Some("table") => table(svg, &inner, &series),
        _ => {
            let stacked = panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars";
            graph(svg, &inner, &series, stacked)
        }
    }
}

/// A series of Prometheus's answer, named as its legend says.
fn read(one: &Value, legend: &str, now: u64) -> Series {
    let labels = one["metric"].as_object();
    let pairs = || labels.into_iter().flatten().filter(|(key, _)| *key != "__name__");
    let mut name = legend.to_owned();
    for (key, value) in pairs() {
        name = name.replace(&format!("{{{{{key}}}}}"), value.as_str().unwrap_or(""));
    }
    let number = |point: &Value| point[1].as_str()?.parse::<f64>().ok().filter(|it| it.is_finite());
    let Some(points) = one["values"].as_array() else {
        // One value now: a row of a table is named by all of its labels.
        let rest: Vec<_> = pairs().filter_map(|(_, value)| value.as_str()).collect();
        let name = if legend.contains("{{") { name } else { rest.join(" · ") };
        return Series { name, values: vec![number(&one["value"])] };
    };
    let times = (0..=SHOWN / STEP).map(|step| now - SHOWN + step * STEP);
    let values = times
        .map(|time| points.iter().find(|point| point[0].as_u64() == Some(time)).and_then(number));
    Series { name, values: values.collect() }
}

fn stats(svg: &mut String, at: &Place, series: &[Series]) -> Result<()> {
    let room = at.width / series.len().max(1) as f64;
    for (index, one) in series.iter().enumerate() {
        let value = one.values.first().copied().flatten().unwrap_or(0.0);
        let x = at.x + room * (index as f64 + 0.5);
        writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" font-size=\"30\" text-anchor=\"middle\" fill=\"#73bf69\">{value:.0}</text><text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#8e8e99\">{}</text>",
            at.y + 30.0,
            at.y + 50.0,
            escaped(&one.name)
        )?;
    }
    Ok(())
}

fn table(svg: &mut String, at: &Place, series: &[Series]) -> Result<()> {
    let mut sorted: Vec<_> = series.iter().collect();
    let value = |one: &Series| one.values.first().copied().flatten().unwrap_or(0.0);
    sorted.sort_by(|a, b| value(b).total_cmp(&value(a)));
    for (line, one) in sorted.iter().take((at.height / 16.0) as usize).enumerate() {
        let y = at.y + 16.0 * (line as f64 + 1.0);
        let (name, value) = (escaped(&one.name), value(one));
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{y}\">{name}</text><text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{value:.0}</text>",
            at.x,
            at.x + at.width
        )?;
    }
    Ok(())
}

fn graph(svg: &mut String, at: &Place, series: &[Series], stacked: bool) -> Result<()> {
    let steps = (SHOWN / STEP + 1) as usize;
    let at_step = |one: &Series, step: usize| one.values.get(step).copied().flatten();
    let highest = |step: usize| {
        let values = series.iter().filter_map(|one| at_step(one, step));
        if stacked { values.sum::<f64>() } else { values.fold(0.0, f64::max) }
    };
    let top = (0..steps).map(highest).fold(0.0, f64::max);
    let scale = if top > 0.0 { (at.height - 20.0) / top } else { 0.0 };
    let (bottom, wide) = (at.y + at.height - 20.0, at.width / steps as f64);
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" fill=\"#8e8e99\" text-anchor=\"end\">{}</text>",
        at.x + at.width,
        at.y - 8.0,
        short(top)
    )?;
    writeln!(svg, "<path d=\"M{} {bottom}h{}\" stroke=\"#2c3036\"/>", at.x, at.width)?;
    let mut below = vec![0.0; steps];
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let mut line = String::new();
        for (step, below) in below.iter_mut().enumerate() {
            let Some(value) = at_step(one, step) else { continue };
            let x = at.x + wide * step as f64;
            if stacked && value > 0.0 {
                let (y, high) = (bottom - (*below + value) * scale, value * scale);
                writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{high:.1}\" fill=\"{colour}\"/>",
                    wide * 0.8
                )?;
                *below += value;
            }
            let begun = if line.is_empty() { 'M' } else { 'L' };
            write!(line, "{begun}{x:.1} {:.1}", bottom - value * scale)?;
        }
        if !stacked {
            writeln!(
                svg,
                "<path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            )?;
        }
    }
    // Those that have something to show come first, and as many as there is room for.
    let most = |one: &Series| one.values.iter().flatten().copied().fold(0.0, f64::max);
    let mut x = at.x;
    let mut named: Vec<_> = series.iter().zip(COLOURS.iter().cycle()).collect();
    named.sort_by(|(a, _), (b, _)| most(b).total_cmp(&most(a)));
    for (one, colour) in named {
        let wide = 24.0 + 6.0 * one.name.chars().count() as f64;
        if x + wide > at.x + at.width {
            break;
        }
        let y = at.y + at.height;
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 6.0,
            x + 14.0,
            escaped(&one.name)
        )?;
        x += wide;
    }
    Ok(())
}

/// Buckets count all below them, so each cell is the difference to the one below.
fn heat(svg: &mut String, at: &Place, series: &mut [Series]) -> Result<()> {
    let bound = |one: &Series| one.name.parse::<f64>().unwrap_or(f64::INFINITY);
    series.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
    let steps = (SHOWN / STEP + 1) as usize;
    let value = |row: usize, step: usize| {
        let at_row = |row: usize| series.get(row)?.values.get(step).copied().flatten();
        let below = row.checked_sub(1).and_then(at_row).unwrap_or(0.0);
        (at_row(row).unwrap_or(0.0) - below).max(0.0)
    };
    let rows = series.len();
    let top = (0..rows)
        .flat_map(|row| (0..steps).map(move |step| (row, step)))
        .map(|(row, step)| value(row, step))
        .fold(0.0, f64::max);
    let (high, wide) = (at.height / rows.max(1) as f64, (at.width - 50.0) / steps as f64);
    for row in 0..rows {
        let y = at.y + at.height - high * (row as f64 + 1.0);
        let name = series.get(row).map_or("", |one| one.name.as_str());
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" font-size=\"8\" fill=\"#8e8e99\">{name} s</text>",
            at.x,
            y + high
        )?;
        for step in 0..steps {
            let share = if top > 0.0 { value(row, step) / top } else { 0.0 };
            if share > 0.0 {
                let x = at.x + 50.0 + wide * step as f64;
                writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#ff780a\" opacity=\"{:.2}\"/>",
                    wide - 1.0,
                    high - 1.0,
                    0.15 + 0.85 * share.sqrt()
                )?;
            }
        }
    }
    Ok(())
}

fn short(value: f64) -> String {
    if value >= 1_048_576.0 {
        format!("{:.0} MiB", value / 1_048_576.0)
    } else if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
