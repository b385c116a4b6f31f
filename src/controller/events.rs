//! Kubernetes events, on transitions only. Best effort: an event that cannot be written holds nothing up.
//!
//! Not kube's recorder: it folds events of one reason into a series and keeps the first text, so that a second
//! promotion within minutes would be announced with the words of the first.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::Semaphore;

use crate::api::Reason;
use crate::api::conditions::{ConditionStatus, Progress, Summary, clean};
use crate::crash_point::around;

/// Events under way at a time; more are dropped rather than queued.
const UNDER_WAY: usize = 32;

/// The longest that one may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether an event is a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It went as it should.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Whether a summary is worth an event about an object that uses a ledger, and whose `Ready` had the reason `before`.
///
/// That a ledger went away and came back is told by the event about its SackerLedger: repeated for each of thousands of
/// objects it would be a storm at the worst moment.
pub fn is_news(before: Option<&str>, summary: &Summary) -> bool {
    let away = Reason::LedgerUnavailable;
    match before {
        // A new object that has to wait a moment is no news yet.
        None => summary.progress != Progress::Reconciling && summary.reason != away,
        Some(before) if before == away.as_str() && summary.ready == ConditionStatus::True => false,
        Some(before) => before != summary.reason.as_str() && summary.reason != away,
    }
}

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Events {
    /// A publisher that signs as `instance`.
    pub fn new(client: Client, instance: impl Into<String>) -> Self {
        Self { client, instance: instance.into(), slots: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    /// Publishes an event about an object, in the background.
    pub fn publish(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: Reason,
        note: &str,
        now: Timestamp,
    ) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            tracing::debug!(%reason, "too many events at once: one was dropped");
            return;
        };
        let event = self.event(about, severity, reason, note, now);
        // Events about cluster-scoped objects live in `default`.
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        tokio::spawn(async move {
            let _slot = slot;
            let parameters = PostParams::default();
            let created = around("operator.event.create", api.create(&parameters, &event));
            match tokio::time::timeout(DEADLINE, created).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%reason, %error, "an event was not written"),
                Err(_) => tracing::debug!(%reason, "an event was not written in time"),
            }
        });
    }

    fn event(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: Reason,
        note: &str,
        now: Timestamp,
    ) -> Event {
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or("sacker"), now.as_nanosecond());
        Event {
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            note: Some(clean(note)),
            reason: Some(reason.as_str().to_owned()),
            regarding: Some(about),
            reporting_controller: Some("sacker.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(match severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_about_the_ledger_only() {
        let ready = Summary::ready(Reason::Applied, "");
        let away = Summary::unknown(Reason::LedgerUnavailable, "");
        let waits = Summary::waiting(Reason::VersionNotFound, "");
        let stalled = Summary::stalled(Reason::Conflict, "");
        for (before, summary, expected) in [
            (None, &ready, true),
            (None, &stalled, true),
            (None, &waits, false),
            (None, &away, false),
            (Some(Reason::VersionNotFound), &ready, true),
            (Some(Reason::Applied), &ready, false),
            (Some(Reason::Applied), &waits, true),
            (Some(Reason::Applied), &away, false),
            (Some(Reason::LedgerUnavailable), &ready, false),
            (Some(Reason::LedgerUnavailable), &stalled, true),
        ] {
            assert_eq!(is_news(before.map(Reason::as_str), summary), expected, "{before:?} {summary:?}");
        }
    }
}
