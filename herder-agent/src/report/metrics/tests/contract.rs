//! docs/metrics.md says what the agent exports, and nothing else: each family with its type, its
//! labels and its HELP line, and each value of a label whose set is closed.

use super::*;
use herder_model::escalation::To;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"));

/// What the page or the exposition says about a family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    row.into_iter().flat_map(|row| row.split(" |")).map(str::trim).collect()
}

fn documented() -> BTreeMap<String, Described> {
    let row = |line| match cells(line)[..] {
        [name, kind, labels, help] => {
            let name = name.strip_prefix("`herder_")?.strip_suffix('`')?;
            let labels = labels.split(", ").filter(|label| !label.is_empty());
            let labels = labels.map(str::to_owned).collect();
            let described = Described { kind: kind.into(), labels, help: help.into() };
            Some((format!("herder_{name}"), described))
        }
        _ => None,
    };
    PAGE.lines().filter_map(row).collect()
}

fn exported(metrics: &Metrics) -> BTreeMap<String, Described> {
    let mut families: BTreeMap<String, Described> = BTreeMap::new();
    let text = String::from_utf8(metrics.exposition().0).unwrap();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' ')) {
            families.entry(name.into()).or_default().help = help.into();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
        {
            families.entry(name.into()).or_default().kind = kind.into();
        } else if let Some((name, labels)) = line.split_once('{') {
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let described = families.entry(family.unwrap_or(name).into()).or_default();
            let names = labels.split("=\"").map(|part| part.rsplit([',', '"']).next().unwrap());
            let names = names.filter(|name| !name.is_empty() && !name.contains('}'));
            described.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    families.retain(|name, _| name.starts_with("herder_"));
    families
}

#[test]
fn every_family_is_documented_as_it_is_exported() {
    let metrics = Metrics::new(RETENTION);
    metrics.source("ebpf", Means::Functions);
    begins(&metrics);
    let fresh = exported(&metrics);
    metrics.rule("web");
    metrics.escalating("web", To::Restart);
    metrics.families.access_last_successful.set([], 1);
    for owner in [pod("web-0"), host("/x")] {
        metrics.oom_group_effective(&owner, Some(false), false, NOW);
    }
    metrics.kill(&at_its_limit("web-0", 64 << 20), Duration::ZERO, NOW);
    let (all, documented) = (exported(&metrics), documented());
    assert!(fresh.len() > 20 && all.len() > fresh.len(), "{} {}", fresh.len(), all.len());
    for (name, described) in &all {
        assert_eq!(documented.get(name), Some(described), "{name}");
    }
    let unknown: Vec<_> = documented.keys().filter(|name| !all.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "documented, but not exported: {unknown:?}");
}

/// The tables whose heads are like "`reason` of `herder_kills_lost_total`".
#[test]
fn every_value_of_a_closed_label_is_documented() {
    let metrics = Metrics::new(RETENTION);
    metrics.escalating("web", To::Restart);
    let mut tables = 0;
    for (place, head) in PAGE.lines().enumerate() {
        let named = cells(head).first().and_then(|cell| {
            let (label, family) = cell.strip_prefix('`')?.split_once("` of `")?;
            Some((label, family.strip_suffix('`')?))
        });
        let Some((label, family)) = named else { continue };
        let rows = PAGE.lines().skip(place + 2).take_while(|line| line.starts_with('|'));
        let documented: BTreeSet<_> = rows
            .flat_map(|row| cells(row)[0].split('`').skip(1).step_by(2).collect::<Vec<_>>())
            .collect();
        let series = lines(&metrics, &format!("{family}{{{label}=\""));
        let exported = series.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(documented, exported, "{label} of {family}");
        tables += 1;
    }
    assert!(tables >= 9, "{tables}");
}
