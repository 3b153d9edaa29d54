//! A metric with labels that keeps series apart by their exact label values.
//!
//! prometheus 0.14's own `MetricVec` finds a series by a 64-bit hash of the
//! label values written one after the other without a separator
//! (`MetricVecCore::hash_label_values()`, src/vec.rs). Pod `web-1` with
//! container `1x` and pod `web-11` with container `x` are one series to it, and
//! a kill in the second is counted under the first. Names are chosen by those
//! who make pods, so this is not left to luck.

use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What the values of a [`Family`] do.
#[derive(Clone, Copy, Debug)]
pub(super) enum FamilyKind {
    /// Only grow.
    Counter,
    /// Go up and down.
    Gauge,
}

/// All series of one metric name. Clones are the same metric.
#[derive(Clone, Debug)]
pub(super) struct Family<const N: usize> {
    inner: Arc<Inner<N>>,
}

#[derive(Debug)]
struct Inner<const N: usize> {
    desc: Desc,
    kind: FamilyKind,
    labels: [&'static str; N],
    series: Mutex<BTreeMap<[Box<str>; N], u64>>,
}

impl<const N: usize> Family<N> {
    /// A metric without series.
    ///
    /// # Errors
    /// When a name is not one that Prometheus allows.
    pub(super) fn new(
        kind: FamilyKind,
        name: &str,
        help: &str,
        labels: [&'static str; N],
    ) -> Result<Self, prometheus::Error> {
        let names = labels.iter().map(ToString::to_string).collect();
        let desc = Desc::new(name.into(), help.into(), names, HashMap::new())?;
        let inner = Inner { desc, kind, labels, series: Mutex::default() };
        Ok(Family { inner: Arc::new(inner) })
    }

    /// Makes sure that there is a series.
    pub(super) fn begin(&self, labels: [&str; N]) {
        self.add(labels, 0);
    }

    /// Adds to a series, which begins at 0 if there is none.
    pub(super) fn add(&self, labels: [&str; N], value: u64) {
        let mut series = self.inner.series();
        let sum = series.entry(labels.map(Box::from)).or_default();
        *sum = sum.saturating_add(value);
    }

    /// Sets a series.
    pub(super) fn set(&self, labels: [&str; N], value: u64) {
        self.inner.series().insert(labels.map(Box::from), value);
    }

    /// Ends a series, if there is one.
    pub(super) fn remove(&self, labels: [&str; N]) {
        self.inner.series().remove(&labels.map(Box::from));
    }

    /// Ends all series whose first labels are these.
    pub(super) fn remove_all(&self, first: &[&str]) {
        self.inner.series().retain(|labels, _| {
            let same = labels.iter().zip(first).all(|(label, value)| **label == **value);
            !same
        });
    }
}

impl<const N: usize> Inner<N> {
    fn series(&self) -> MutexGuard<'_, BTreeMap<[Box<str>; N], u64>> {
        // Every change is a single insertion or addition, so a panic elsewhere
        // cannot leave the map half changed.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metric(&self, values: &[Box<str>; N], value: u64) -> Metric {
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value(value.to_string());
            pair
        });
        let mut pairs: Vec<_> = pairs.collect();
        // As prometheus's own metrics are written, and so as readers expect them.
        pairs.sort_by(|one, other| one.name().cmp(other.name()));
        let mut metric = Metric::from_label(pairs);
        match self.kind {
            FamilyKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(number(value));
                metric.set_counter(counter);
            }
            FamilyKind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(number(value));
                metric.set_gauge(gauge);
            }
        }
        metric
    }
}

/// Exact up to 2^53, which no count of kills reaches.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(value: u64) -> f64 {
    value as f64
}

impl<const N: usize> Collector for Family<N> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.inner.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self
            .inner
            .series()
            .iter()
            .map(|(labels, value)| self.inner.metric(labels, *value))
            .collect();
        let mut family = MetricFamily::default();
        family.set_name(self.inner.desc.fq_name.clone());
        family.set_help(self.inner.desc.help.clone());
        family.set_field_type(match self.inner.kind {
            FamilyKind::Counter => MetricType::COUNTER,
            FamilyKind::Gauge => MetricType::GAUGE,
        });
        family.set_metric(metrics);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Registry, TextEncoder};

    fn family() -> (Registry, Family<2>) {
        let family =
            Family::new(FamilyKind::Counter, "x_total", "Help.", ["pod", "container"]).unwrap();
        let registry = Registry::new();
        registry.register(Box::new(family.clone())).unwrap();
        (registry, family)
    }

    fn text(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn label_values_are_not_run_together() {
        let (registry, family) = family();
        family.add(["web-1", "1x"], 1);
        family.add(["web-11", "x"], 2);
        let expected = "# HELP x_total Help.\n# TYPE x_total counter\n\
            x_total{container=\"1x\",pod=\"web-1\"} 1\n\
            x_total{container=\"x\",pod=\"web-11\"} 2\n";
        assert_eq!(text(&registry), expected);
    }

    #[test]
    fn label_values_are_escaped() {
        let (registry, family) = family();
        family.add(["a\"} 1\nforged_total 9", "\\"], 1);
        assert!(
            text(&registry)
                .contains("x_total{container=\"\\\\\",pod=\"a\\\"} 1\\nforged_total 9\"} 1\n"),
            "{}",
            text(&registry)
        );
    }

    #[test]
    fn series_end() {
        let (registry, family) = family();
        for labels in [["a", "b"], ["a", "c"], ["d", "b"]] {
            family.add(labels, 0);
        }
        family.remove_all(&["a"]);
        family.remove(["nobody", "here"]);
        assert_eq!(text(&registry).lines().count(), 3, "{}", text(&registry));
        family.remove(["d", "b"]);
        assert_eq!(text(&registry), "");
    }

    #[test]
    fn bad_names_are_refused() {
        assert!(Family::new(FamilyKind::Gauge, "a b", "Help.", []).is_err());
        assert!(Family::new(FamilyKind::Gauge, "a", "Help.", ["b c"]).is_err());
    }
}
