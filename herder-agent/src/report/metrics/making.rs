//! A family of each kind, registered where the exposition finds it.

use super::family::{Exposed, Family, FamilyKind};
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, core::Collector};

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
pub(super) fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("no family is registered twice");
}

pub(super) fn counter<const N: usize>(
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    family(FamilyKind::Counter, exposed, name, help, labels)
}

pub(super) fn gauge<const N: usize>(
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    family(FamilyKind::Gauge, exposed, name, help, labels)
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
fn family<const N: usize>(
    kind: FamilyKind,
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    let family = Family::new(kind, name, help, labels).expect("a valid family");
    exposed.push(Box::new(family.clone()));
    family
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
pub(super) fn plain(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let family = IntCounter::new(name, help).expect("a valid family");
    register(registry, family.clone());
    family
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let family = Histogram::with_opts(options).expect("a valid family");
    register(registry, family.clone());
    family
}
