//! Each test of the alerts once more, with the same trouble as other Prometheuses see it:
//! two jobs scrape an agent, there are two clusters, or series begin with what they count.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How a case is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Every series is there under two jobs; nothing else comes of it.
    TwoJobs,
    /// Every series is there in two clusters; so is every alert.
    TwoClusters,
    /// No counter has a 0 before what it counts.
    NoZeros,
}

impl Variant {
    pub const ALL: [Self; 3] = [Self::TwoJobs, Self::TwoClusters, Self::NoZeros];

    /// The name of its file of tests.
    pub fn file(self) -> &'static str {
        match self {
            Self::TwoJobs => "alerts-two-jobs.yaml",
            Self::TwoClusters => "alerts-two-clusters.yaml",
            Self::NoZeros => "alerts-no-zeros.yaml",
        }
    }
}

/// The tests of a file, changed.
pub fn of(tests: &Value, variant: Variant) -> Result<Value> {
    let mut changed = tests.clone();
    for test in list_mut(&mut changed["tests"])? {
        let mut series = Vec::new();
        for one in list_mut(&mut test["input_series"])? {
            let name = text(&one["series"])?;
            let values = text(&one["values"])?;
            match variant {
                Variant::TwoJobs => {
                    series.push(json!({"series": name, "values": values}));
                    series.push(json!({"series": by_another_job(name)?, "values": values}));
                }
                Variant::TwoClusters => {
                    for cluster in ["blue", "green"] {
                        let series_of = labelled(name, &format!("cluster=\"{cluster}\""))?;
                        series.push(json!({"series": series_of, "values": values}));
                    }
                }
                Variant::NoZeros => {
                    let counts = name.split('{').next().is_some_and(|it| it.ends_with("_total"));
                    let values = if counts { without_zeros(values) } else { values.to_owned() };
                    series.push(json!({"series": name, "values": values}));
                }
            }
        }
        test["input_series"] = series.into();
        if variant == Variant::TwoClusters {
            for case in list_mut(&mut test["alert_rule_test"])? {
                let expected = std::mem::take(list_mut(&mut case["exp_alerts"])?);
                let of = |cluster| {
                    expected.iter().cloned().map(move |mut alert| {
                        alert["exp_labels"]["cluster"] = json!(cluster);
                        alert
                    })
                };
                case["exp_alerts"] = of("blue").chain(of("green")).collect();
            }
        }
    }
    Ok(changed)
}

/// The same series as a second job has it. Jobs whose name says that they are Herder's
/// still do.
fn by_another_job(series: &str) -> Result<String> {
    match series.split_once("job=\"") {
        Some((before, after)) => Ok(format!("{before}job=\"again/{after}")),
        None => labelled(series, "job=\"again/herder-agent\",instance=\"10.0.0.9:9469\""),
    }
}

fn labelled(series: &str, labels: &str) -> Result<String> {
    let (name, others) = series.split_once('{').context("a series without labels")?;
    Ok(format!("{name}{{{labels},{others}"))
}

/// `0 0 1+0x9` as `_ _ 1+0x9`, and `0+2x9` as `_ 2+2x8`.
fn without_zeros(values: &str) -> String {
    let mut begun = false;
    let words = values.split(' ').map(|word| {
        if begun {
            return word.to_owned();
        }
        let growing = word.strip_prefix("0+").and_then(|it| it.split_once('x'));
        match (word, word.strip_prefix("0x"), growing) {
            ("0", ..) => "_".to_owned(),
            (_, Some(times), _) => format!("_x{times}"),
            (_, _, Some(("0", times))) => format!("_x{times}"),
            (_, _, Some((step, times))) => {
                begun = true;
                let times = times.parse::<u32>().unwrap_or(1).saturating_sub(1);
                format!("_ {step}+{step}x{times}")
            }
            _ => {
                begun = true;
                word.to_owned()
            }
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("no text")
}

fn list_mut(value: &mut Value) -> Result<&mut Vec<Value>> {
    value.as_array_mut().context("no list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_and_what_is_counted_stays() {
        let table = [
            ("0 0 1+0x10", "_ _ 1+0x10"),
            ("0 1 0 3", "_ 1 0 3"),
            ("0+0.5x120", "_ 0.5+0.5x119"),
            ("0x60 1+0x60", "_x60 1+0x60"),
            ("0+0x5 2", "_x5 2"),
            ("7+0x20", "7+0x20"),
            ("_x20 1+0x10", "_x20 1+0x10"),
        ];
        for (values, expected) in table {
            assert_eq!(without_zeros(values), expected);
        }
    }

    #[test]
    fn cases_are_changed_as_their_names_say() {
        let tests = json!({"tests": [{
            "input_series": [{"series": "x_total{a=\"b\"}", "values": "0 1"}],
            "alert_rule_test": [{"exp_alerts": [{"exp_labels": {"a": "b"}}]}]
        }]});
        let series = |variant| {
            let of = of(&tests, variant).unwrap();
            let all = of["tests"][0]["input_series"].as_array().unwrap().clone();
            let names = all.iter().map(|one| one["series"].as_str().unwrap().to_owned());
            (names.collect::<Vec<_>>(), all[0]["values"].clone(), of)
        };
        let (names, _, changed) = series(Variant::TwoClusters);
        assert_eq!(
            names,
            ["x_total{cluster=\"blue\",a=\"b\"}", "x_total{cluster=\"green\",a=\"b\"}"]
        );
        let alerts = &changed["tests"][0]["alert_rule_test"][0]["exp_alerts"];
        assert_eq!(alerts[1]["exp_labels"], json!({"a": "b", "cluster": "green"}));
        assert_eq!(alerts.as_array().unwrap().len(), 2);
        assert_eq!(series(Variant::TwoJobs).0.len(), 2);
        assert_eq!(series(Variant::NoZeros).1, "_ 1");
        let other = by_another_job("up{job=\"herder-agent\",node=\"n\"}").unwrap();
        assert_eq!(other, "up{job=\"again/herder-agent\",node=\"n\"}");
    }
}
