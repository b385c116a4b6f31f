//! What `/metrics` shows. Labels are fixed words: never a package, a tag, a digest or the name of an object.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::context::Name;
use crate::api::Reason;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters and gauges of the whole process.
#[derive(Debug, Clone)]
pub struct Metrics {
    passes: Family<Labels<2>, Counter>,
    failures: Family<Labels<2>, Counter>,
    pass_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    tag_changes: Family<Labels<1>, Counter>,
    status_writes: Family<Labels<1>, Counter>,
    polls: Family<Labels<1>, Counter>,
    poll_changes: Counter,
    poll_seconds: Histogram,
    last_event: Family<Labels<1>, Gauge>,
    leading: Gauge,
}

/// 1 ms to about 16 s: from a pass that finds nothing to do to one that meets a slow ledger.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Metrics {
    /// The metrics, and the registry that shows them together with `objects`.
    pub fn new(objects: Box<dyn Collector>) -> (Self, Arc<Registry>) {
        let metrics = Self {
            passes: Family::default(),
            failures: Family::default(),
            pass_seconds: Family::new_with_constructor(seconds),
            tag_changes: Family::default(),
            status_writes: Family::default(),
            polls: Family::default(),
            poll_changes: Counter::default(),
            poll_seconds: seconds(),
            last_event: Family::default(),
            leading: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("sacker");
        let Self { passes, failures, pass_seconds, tag_changes, status_writes, .. } = metrics.clone();
        registry.register("reconcile", "Passes over objects, by controller and outcome", passes);
        registry.register("reconcile_failures", "Passes that failed, by controller and reason", failures);
        registry.register_with_unit("reconcile", "The time of one pass", Unit::Seconds, pass_seconds);
        registry.register("tag_changes", "Changes that were written to ledgers, by kind", tag_changes);
        registry.register("status_writes", "Statuses that were written, by field manager", status_writes);
        let Self { polls, poll_changes, poll_seconds, last_event, leading, .. } = metrics.clone();
        registry.register("polls", "Rounds of polling a ledger, by outcome", polls);
        registry.register("poll_changes", "Packages that a poll found changed", poll_changes);
        registry.register_with_unit("poll", "The time of one round of polling", Unit::Seconds, poll_seconds);
        let help = "When the last event of a watch arrived, as Unix time";
        registry.register_with_unit("watch_last_event_timestamp", help, Unit::Seconds, last_event);
        registry.register("leading", "Whether this process acts: 1 or 0", leading);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This sacker", build);
        registry.register_collector(objects);
        (metrics, Arc::new(registry))
    }

    /// A pass ended after `time`, with a failure for this reason or without one.
    pub fn passed(&self, controller: Name, time: Duration, failure: Option<Reason>) {
        let controller = ("controller", controller.as_str());
        let outcome = if failure.is_some() { "failed" } else { "ok" };
        self.passes.get_or_create(&[controller, ("outcome", outcome)]).inc();
        self.pass_seconds.get_or_create(&[controller]).observe(time.as_secs_f64());
        if let Some(reason) = failure {
            self.failures.get_or_create(&[controller, ("reason", reason.as_str())]).inc();
        }
    }

    /// A tag was changed in a ledger.
    pub fn tag_changed(&self, kind: &'static str) {
        self.tag_changes.get_or_create(&[("kind", kind)]).inc();
    }

    /// A status was written.
    pub fn status_written(&self, manager: &'static str) {
        self.status_writes.get_or_create(&[("manager", manager)]).inc();
    }

    /// A round of polling ended after `time`.
    pub fn polled(&self, time: Duration, changes: u64, complete: bool) {
        let outcome = if complete { "ok" } else { "failed" };
        self.polls.get_or_create(&[("outcome", outcome)]).inc();
        self.poll_changes.inc_by(changes);
        self.poll_seconds.observe(time.as_secs_f64());
    }

    /// A watch heard something.
    pub fn heard(&self, kind: &'static str, now: Timestamp) {
        self.last_event.get_or_create(&[("kind", kind)]).set(now.as_second());
    }

    /// This process acts now, or no longer.
    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}

/// How many objects there are, by kind and by why they are ready or not. Counted when asked for.
pub struct Objects<F>(F);

impl<F> Objects<F>
where
    F: Fn() -> Vec<(&'static str, &'static str, i64)> + Send + Sync + 'static,
{
    /// Counts as `count` says: kind, reason, number.
    pub fn new(count: F) -> Self {
        Self(count)
    }
}

impl<F> std::fmt::Debug for Objects<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl<F> Collector for Objects<F>
where
    F: Fn() -> Vec<(&'static str, &'static str, i64)> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0_i64);
        let help = "Objects by kind and by the reason of their Ready condition";
        let mut family = encoder.encode_descriptor("objects", help, None, gauge.metric_type())?;
        for (kind, reason, count) in (self.0)() {
            let labels = [("kind", kind), ("reason", reason)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
