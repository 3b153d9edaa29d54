//! The dashboard in the form that is imported by hand: Grafana asks for the data source and
//! checks what it needs. The other form, which is provisioned, has a variable instead.

use super::grafana::SOURCE;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What Grafana asks for.
const INPUT: &str = "DS_PROMETHEUS";

/// The oldest Grafana that knows the dashboard's schema.
const GRAFANA: &str = "11.0.0";

/// The same panels and variables, but for the one of the data source.
pub fn importable(dashboard: &Value) -> Result<Value> {
    let text = dashboard.to_string().replace(&format!("${{{SOURCE}}}"), &format!("${{{INPUT}}}"));
    let mut import: Value = serde_json::from_str(&text)?;
    let variables = import.pointer_mut("/templating/list").and_then(Value::as_array_mut);
    variables.context("no variables")?.retain(|variable| variable["name"] != SOURCE);
    import["__inputs"] = json!([{
        "name": INPUT,
        "label": "Prometheus",
        "description": "What scrapes the agents",
        "type": "datasource",
        "pluginId": "prometheus",
        "pluginName": "Prometheus",
    }]);
    let mut requires = vec![
        json!({ "type": "grafana", "id": "grafana", "name": "Grafana", "version": GRAFANA }),
        json!({ "type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0" }),
    ];
    requires.extend(
        kinds(dashboard)
            .into_iter()
            .map(|(id, name)| json!({ "type": "panel", "id": id, "name": name, "version": "" })),
    );
    import["__requires"] = requires.into();
    import["__elements"] = json!({});
    Ok(import)
}

/// Plugins of the panels, and what they are called.
fn kinds(dashboard: &Value) -> BTreeSet<(&str, &'static str)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let kinds = panels.filter_map(|panel| panel["type"].as_str()).filter(|kind| *kind != "row");
    let named = kinds.map(|kind| {
        let name = match kind {
            "stat" => "Stat",
            "timeseries" => "Time series",
            "heatmap" => "Heatmap",
            "table" => "Table",
            _ => "",
        };
        (kind, name)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboards::{grafana, source};

    fn both() -> (Value, Value) {
        let dashboard = grafana::dashboard(&source::panels().unwrap());
        let import = importable(&dashboard).unwrap();
        (dashboard, import)
    }

    #[test]
    fn every_data_source_of_the_import_is_asked_for() {
        let (dashboard, import) = both();
        let text = import.to_string();
        assert!(!text.contains("${datasource}") && !text.contains("$datasource"));
        let count = |text: &str, of: &str| text.matches(of).count();
        let expected = count(&dashboard.to_string(), "${datasource}");
        assert!(expected > 10);
        assert_eq!(count(&text, "${DS_PROMETHEUS}"), expected);
        assert_eq!(import["__inputs"][0]["name"], "DS_PROMETHEUS");
    }

    /// Grafana refuses a dashboard whose plugins it lacks only if they are named.
    #[test]
    fn every_panel_is_of_a_required_plugin_with_a_name() {
        let (_, import) = both();
        let requires = import["__requires"].as_array().unwrap();
        for panel in import["panels"].as_array().unwrap() {
            let kind = &panel["type"];
            let required = requires.iter().find(|one| one["type"] == "panel" && one["id"] == *kind);
            assert!(kind == "row" || required.is_some_and(|one| one["name"] != ""), "{kind}");
        }
    }

    #[test]
    fn both_forms_have_the_same_panels_and_variables() {
        let (dashboard, import) = both();
        let names = |of: &Value| {
            let list = of["templating"]["list"].as_array().unwrap().iter();
            list.map(|variable| variable["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&import), names(&dashboard)[1..]);
        let titles = |of: &Value| {
            let panels = of["panels"].as_array().unwrap().iter();
            panels.map(|panel| panel["title"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(titles(&import), titles(&dashboard));
    }
}
