//! The panels as Grafana wants them: laid out, with queries, units and colours.

use super::source::{Good, Kind, Panel, Query, Source};
use serde_json::{Value, json};

/// The schema of Grafana 11.0.
const SCHEMA: u32 = 39;

/// The variable that names the data source.
pub const SOURCE: &str = "datasource";

/// What the short forms in panels.yaml stand for. A fleet that sets no `cluster`
/// label is shown when all clusters are.
const SELECTIONS: [(&str, &str); 3] = [
    ("@pods", r#"cluster=~"$cluster", namespace=~"$namespace", pod=~"$pod", node=~"$node""#),
    ("@nodes", r#"cluster=~"$cluster", node=~"$node""#),
    ("@agents", r#"job=~"(.+/)?herder-agent", cluster=~"$cluster", node=~"$node""#),
];

/// What `@grown(X)` stands for: by how much X has grown in the chosen time. What was not
/// there before that has grown by all that it has, since `increase()` does not see the
/// first kill of a series that begins with it. Not so where Prometheus has just begun to
/// scrape an agent that is older, by two minutes at least: the first scrape comes after the
/// start.
fn grown(series: &str) -> String {
    format!(
        "(last_over_time({series}[$__range]) unless {series} offset $__range \
         unless on (cluster, node, instance, job) \
         (process_start_time_seconds < time() - $__range_s - 120 \
         unless process_start_time_seconds offset $__range) \
         or increase({series}[$__range]))"
    )
}

/// The dashboard.
pub fn dashboard(source: &Source) -> Value {
    json!({
        "annotations": {"list": [annotation()]},
        "description": source.description,
        "editable": true,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": null,
        "links": [],
        "panels": panels(source),
        "refresh": "30s",
        "schemaVersion": SCHEMA,
        "tags": ["kubernetes", "memory", "oom"],
        "templating": {"list": variables()},
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": source.title,
        "uid": source.uid,
        "version": 1
    })
}

/// An expression with its short forms spelt out.
pub fn spelt_out(expr: &str) -> String {
    let mut parts = expr.trim().split("@grown(");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A selection has no parentheses before it is spelt out.
        let (series, rest) = part.split_once(')').unwrap_or((part, ""));
        written += &grown(series);
        written += rest;
    }
    SELECTIONS.iter().fold(written, |expr, (short, long)| expr.replace(short, long))
}

fn data_source() -> Value {
    json!({"type": "prometheus", "uid": format!("${{{SOURCE}}}")})
}

fn annotation() -> Value {
    json!({
        "datasource": data_source(),
        "enable": true,
        "expr": r#"max by (alertname) (ALERTS{alertname=~"Herder.+", alertstate="firing", cluster=~"$cluster"})"#,
        "hide": false,
        "iconColor": "red",
        "name": "Alerts",
        "titleFormat": "{{alertname}}"
    })
}

fn variables() -> Vec<Value> {
    let source = json!({
        "hide": 0, "includeAll": false, "label": "Data source", "multi": false,
        "name": SOURCE, "options": [], "query": "prometheus", "refresh": 1, "regex": "",
        "skipUrlSync": false, "type": "datasource"
    });
    let label = |name: &str, title: &str, query: &str| {
        json!({
            "allValue": ".*",
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "datasource": data_source(),
            "hide": 0,
            "includeAll": true,
            "label": title,
            "multi": true,
            "name": name,
            "options": [],
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "regex": "",
            "skipUrlSync": false,
            "sort": 1,
            "type": "query"
        })
    };
    vec![
        source,
        label("cluster", "Cluster", "label_values(herder_build_info, cluster)"),
        label(
            "namespace",
            "Namespace",
            r#"label_values(herder_oom_kills_total{cluster=~"$cluster"}, namespace)"#,
        ),
        label(
            "pod",
            "Pod",
            r#"label_values(herder_oom_kills_total{cluster=~"$cluster", namespace=~"$namespace"}, pod)"#,
        ),
        label("node", "Node", r#"label_values(herder_build_info{cluster=~"$cluster"}, node)"#),
    ]
}

/// From left to right, a new line where the 24 columns are full.
fn panels(source: &Source) -> Vec<Value> {
    let mut all = Vec::new();
    let (mut x, mut y, mut line) = (0, 0, 0);
    for row in &source.rows {
        y += line;
        all.push(json!({
            "collapsed": false,
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            "id": all.len() + 1,
            "panels": [],
            "title": row.title,
            "type": "row"
        }));
        (x, y, line) = (0, y + 1, 0);
        for panel in &row.panels {
            let height = if panel.kind == Kind::Stat { 4 } else { 8 };
            if x + panel.width > 24 {
                (x, y, line) = (0, y + line, 0);
            }
            let place = json!({"h": height, "w": panel.width, "x": x, "y": y});
            all.push(one(panel, all.len() + 1, &place));
            (x, line) = (x + panel.width, line.max(height));
        }
    }
    let _ = x;
    all
}

fn one(panel: &Panel, id: usize, place: &Value) -> Value {
    let letters = 'A'..;
    let targets: Vec<_> = panel
        .queries
        .iter()
        .zip(letters)
        .map(|(query, id)| target(panel.kind, query, id))
        .collect();
    let mut value = json!({
        "datasource": data_source(),
        "description": panel.does.trim(),
        "fieldConfig": {"defaults": field(panel), "overrides": []},
        "gridPos": place,
        "id": id,
        "options": options(panel.kind),
        "targets": targets,
        "title": panel.title,
        "type": panel_type(panel.kind)
    });
    if panel.kind == Kind::Table {
        // Which series a row came from is in its other columns.
        value["transformations"] = json!([{
            "id": "organize",
            "options": {"excludeByName": {"Time": true, "__name__": true, "instance": true, "job": true}}
        }]);
    }
    value
}

fn panel_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat => "stat",
        Kind::Lines | Kind::Bars => "timeseries",
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
    }
}

fn target(kind: Kind, query: &Query, id: char) -> Value {
    let instant = query.instant || kind == Kind::Stat;
    let format = match kind {
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
        _ => "time_series",
    };
    json!({
        "datasource": data_source(),
        "editorMode": "code",
        "expr": spelt_out(&query.expr),
        "format": format,
        "instant": instant,
        "legendFormat": query.legend,
        "range": !instant,
        "refId": id.to_string()
    })
}

fn field(panel: &Panel) -> Value {
    let unit = panel.unit.as_deref().unwrap_or("short");
    let above_zero = match panel.good {
        Some(Good::More) => "green",
        Some(Good::Less) => "red",
        None => "blue",
    };
    let neutral = if matches!(panel.good, Some(Good::Less)) { "green" } else { "blue" };
    match panel.kind {
        Kind::Stat => json!({
            "color": {"mode": "thresholds"},
            "decimals": 0,
            "noValue": "0",
            "thresholds": {"mode": "absolute", "steps": [
                {"color": neutral, "value": null}, {"color": above_zero, "value": 0.5}
            ]},
            "unit": unit
        }),
        Kind::Heatmap => json!({"unit": unit}),
        Kind::Table => json!({"decimals": 0, "unit": unit}),
        Kind::Lines => json!({
            "color": {"mode": "palette-classic"},
            "custom": {"drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never"},
            "min": 0,
            "unit": unit
        }),
        Kind::Bars => json!({
            "color": {"mode": "palette-classic"},
            "custom": {
                "drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0,
                "stacking": {"group": "A", "mode": "normal"}
            },
            "min": 0,
            "unit": unit
        }),
    }
}

fn options(kind: Kind) -> Value {
    match kind {
        Kind::Stat => json!({
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "showPercentChange": false,
            "textMode": "auto",
            "wideLayout": true
        }),
        Kind::Lines | Kind::Bars => json!({
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"}
        }),
        Kind::Heatmap => json!({
            "calculate": false,
            "cellGap": 1,
            "color": {
                "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false,
                "scale": "exponential", "scheme": "Oranges", "steps": 64
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": true},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": false, "yHistogram": false},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": "s"}
        }),
        Kind::Table => json!({
            "cellHeight": "sm",
            "frameIndex": 0,
            "showHeader": true,
            "sortBy": [{"desc": true, "displayName": "Value"}]
        }),
    }
}
