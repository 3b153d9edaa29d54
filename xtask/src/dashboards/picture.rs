//! A picture of the dashboard where no Grafana is: each panel of herder.json in its
//! place, its own expressions answered by a real Prometheus that scrapes the recorded
//! run as slowly as it happened, and drawn by `draw`.
//!
//! Grafana should draw it, and nothing that xtask may fetch is Grafana: Debian has no package
//! of it, and npm and pip have its schema and clients only. Prometheus's own page, which
//! Chromium could show, draws one expression at a time, without titles, units, thresholds or
//! tables. Once Grafana can be had like everything else here, this module and `draw` go.

use super::{
    draw::{self, Frame, Series, escaped},
    prometheus::{self, Prometheus},
    proof, record,
    source::directory,
};
use crate::{
    command::{output, say},
    debian,
    page::{
        browser::{Browser, Screen},
        wait,
    },
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, time::SystemTime};

/// Pixels: of the picture, of Grafana's units of height, and above the panels.
const WIDTH: u32 = 1400;
const UNIT: u32 = 30;
const HEAD: u32 = 64;

/// Between two panels, and what a panel has around its plot.
const GAP: f64 = 6.0;
const AROUND: (f64, f64) = (20.0, 58.0);

const NOTE: &str = "Drawn by cargo xtask dashboards --picture from the dashboard’s own expressions and a \
                    recorded run of two agents in VMs, not by Grafana. Namespace: All · Pod: All · Node: All";

const STYLE: &str = "\
* { box-sizing: border-box; margin: 0; }
body { background: #111217; color: #ccccdc; font: 12px 'DejaVu Sans', sans-serif; position: relative; }
header { padding: 10px 16px; }
h1 { font-size: 17px; font-weight: 500; margin-bottom: 5px; }
header p { color: #8e8e99; }
section, h2 { position: absolute; }
h2 { font-size: 14px; font-weight: 500; padding: 8px 10px; }
section { background: #181b1f; border: 1px solid #2a2d33; border-radius: 2px; overflow: hidden; padding: 6px 9px; }
h3 { font-size: 12.5px; font-weight: 500; height: 24px; }
svg { display: block; }
svg text { fill: #9a9aa6; font-size: 10.5px; }
.grid { stroke: #2a2d33; }
.legend { display: flex; flex-wrap: wrap; gap: 0 12px; font-size: 11px; height: 20px; overflow: hidden; padding: 5px 0 0 6px; }
.legend i { border-radius: 2px; display: inline-block; height: 4px; margin-right: 5px; vertical-align: middle; width: 12px; }
.stat { align-items: center; display: flex; height: 76px; justify-content: space-around; }
.stat i { display: block; font-size: 13px; font-style: normal; text-align: center; }
.stat b { font-size: 40px; font-weight: 500; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #2a2d33; overflow-wrap: anywhere; padding: 4px 8px 4px 2px; text-align: left; }
th { color: #6e9fff; font-weight: 500; }
";

/// What time the picture shows, seconds since 1970.
struct Span {
    from: u64,
    to: u64,
    step: u64,
}

pub fn run(file: &Path) -> Result<()> {
    debian::need("chromium", "chromium")?;
    let program = prometheus::newest()?.map_or_else(prometheus::installed, Ok)?;
    // The first scrapes come about then.
    let from = now()? + record::BETWEEN.as_secs();
    say("A Prometheus scrapes the recorded run; that takes as long as it did …");
    let prometheus = proof::fed(&program, "picture", record::BETWEEN, proof::Scraped::Once)?;
    let span = Span { from, to: now()?, step: 2 };
    let text = fs::read_to_string(directory().join("herder.json"))?;
    let (html, height) = page(&serde_json::from_str(&text)?, &prometheus, &span)?;
    let path = output()?.join("dashboard.html");
    fs::write(&path, html)?;
    let mut browser = Browser::start()?;
    browser.screen(&Screen { width: WIDTH, height, phone: false, dark: true })?;
    browser.open(&format!("file://{}", path.display()))?;
    let drawn = "location.protocol === 'file:' && document.readyState === 'complete'";
    wait("the picture is drawn", || Ok(browser.evaluate(drawn)? == true))?;
    fs::write(file, browser.screenshot()?)?;
    say(&format!("{} from Prometheus {}", file.display(), prometheus.version));
    Ok(())
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// The page, and how high it is.
fn page(dashboard: &Value, prometheus: &Prometheus, span: &Span) -> Result<(String, u32)> {
    let mut body = String::new();
    let mut bottom = 0;
    let column = (f64::from(WIDTH) - GAP) / 24.0;
    for panel in dashboard["panels"].as_array().context("herder.json has no panels")? {
        let place =
            |key: &str| panel["gridPos"][key].as_u64().and_then(|at| u32::try_from(at).ok());
        let place = ["x", "y", "w", "h"].map(|key| place(key).unwrap_or(0));
        let [x, y, w, h] = place.map(f64::from);
        let [_, top, _, high] = place;
        bottom = bottom.max(HEAD + (top + high) * UNIT);
        let (width, height) = (w * column - GAP, h * f64::from(UNIT) - GAP);
        let style = format!(
            "left:{:.0}px;top:{:.0}px;width:{width:.0}px;height:{height:.0}px",
            x * column + GAP,
            y * f64::from(UNIT) + f64::from(HEAD)
        );
        let title = escaped(text(&panel["title"]));
        if panel["type"] == "row" {
            body += &format!("<h2 style='{style}'>⌄ {title}</h2>\n");
            continue;
        }
        let frame = Frame {
            width: width - AROUND.0,
            height: height - AROUND.1,
            from: span.from as f64,
            to: span.to as f64,
            step: span.step as f64,
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
        };
        let inside = drawn(panel, prometheus, span, &frame)?;
        body += &format!("<section style='{style}'><h3>{title}</h3>{inside}</section>\n");
    }
    let html = format!(
        "<!doctype html>\n<meta charset='utf-8'>\n<title>Herder</title>\n<style>{STYLE}</style>\n\
         <header><h1>{}</h1><p>{NOTE}</p></header>\n{body}",
        escaped(text(&dashboard["title"]))
    );
    Ok((html, bottom + 2))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What is in a panel below its title.
fn drawn(panel: &Value, prometheus: &Prometheus, span: &Span, frame: &Frame<'_>) -> Result<String> {
    let mut all = Vec::new();
    for target in panel["targets"].as_array().context("a panel without queries")? {
        all.extend(answer(target, prometheus, span)?);
    }
    let plot = match text(&panel["type"]) {
        "stat" => return Ok(draw::stat(&all, |value| threshold(panel, value))),
        "table" => {
            let hidden = &panel["transformations"][0]["options"]["excludeByName"];
            all.iter_mut().for_each(|one| one.labels.retain(|name, _| hidden[name] != true));
            return Ok(draw::table(&all));
        }
        "heatmap" => return Ok(draw::heatmap(frame, &all)),
        _ if panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars" => {
            draw::bars(frame, &all)
        }
        _ => draw::lines(frame, &all),
    };
    let one = |(index, series): (usize, &Series)| {
        let color = draw::color(index);
        format!("<span><i style='background:{color}'></i>{}</span>", escaped(&series.name))
    };
    // There is room for some names, and no scrolling: those with something to see.
    let seen = |(_, series): &(usize, &Series)| series.points.iter().any(|point| point.1 > 0.0);
    let legend: String = all.iter().enumerate().filter(seen).map(one).collect();
    Ok(format!("{plot}<div class='legend'>{legend}</div>"))
}

/// The colour of the last step that a value has reached.
fn threshold(panel: &Value, value: f64) -> String {
    let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
    let reached = |step: &&Value| step["value"].as_f64().is_none_or(|least| value >= least);
    let step = steps.and_then(|steps| steps.iter().rfind(reached));
    match step.map_or("", |step| text(&step["color"])) {
        "green" => "#73bf69",
        "red" => "#f2495c",
        _ => "#5794f2",
    }
    .to_owned()
}

fn answer(target: &Value, prometheus: &Prometheus, span: &Span) -> Result<Vec<Series>> {
    let expr = proof::filled(text(&target["expr"]));
    let samples = if target["range"] == true {
        prometheus.query_range(&expr, span.from, span.to, span.step)?
    } else {
        prometheus.query(&expr)?
    };
    let series = |sample: &Value| {
        let labels: BTreeMap<String, String> =
            serde_json::from_value(sample["metric"].clone()).unwrap_or_default();
        let legend = text(&target["legendFormat"]).to_owned();
        let name = labels.iter().fold(legend, |legend, (name, value)| {
            legend.replace(&format!("{{{{{name}}}}}"), value)
        });
        let single = std::iter::once(&sample["value"]);
        let points = sample["values"].as_array().into_iter().flatten().chain(single);
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?));
        let points = points.filter_map(point).filter(|point: &(f64, f64)| point.1.is_finite());
        Series { name, labels, points: points.collect() }
    };
    Ok(samples.iter().map(series).collect())
}
