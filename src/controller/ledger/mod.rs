//! The SackerLedger controller: says whether a ledger can be used, and what to do if not.
//!
//! It asks once per spec and process, and on request. Whether a ledger that worked is still up is found by those who use
//! it and kept by [`super::pool`]; this controller only shows that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use super::backoff::jitter;
use super::context::{Context, Kind, Name};
use super::driver::Reconcile;
use super::error::{Class, Failure, place};
use super::events::Severity;
use super::pool::Health;
use super::{poll, status};
use crate::api::conditions::{ConditionStatus, ConditionType, Progress, Summary, find};
use crate::api::{LEDGER_MANAGER, Reason, SackerLedger, SackerLedgerStatus, requested_at};
use crate::error::{Error, Meaning, Missing};
use crate::model::{LedgerUri, StoreUri, time};

/// How often the time of the last poll is written, at most.
const POLL_TIME: Duration = Duration::from_mins(10);

/// How often a ledger that refuses us, or does not exist, is asked again: nothing in the cluster tells when that is
/// mended.
const MENDED: Duration = Duration::from_secs(30);

/// The specs that were asked already by this process: uid, with generation and request.
#[derive(Debug, Default)]
pub struct Probed(Mutex<HashMap<String, Asked>>);

type Asked = (Option<i64>, Option<String>);

impl Probed {
    fn has(&self, object: &SackerLedger) -> bool {
        let probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probed.get(&object.uid().unwrap_or_default()) == Some(&Self::asked(object))
    }

    fn note(&self, object: &SackerLedger) {
        let mut probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probed.insert(object.uid().unwrap_or_default(), Self::asked(object));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn asked(object: &SackerLedger) -> Asked {
        (object.metadata.generation, requested_at(&object.metadata).map(str::to_owned))
    }
}

impl Reconcile for SackerLedger {
    const NAME: Name = Name::Ledger;
    const MANAGER: &'static str = LEDGER_MANAGER;

    fn objects(context: &Context) -> &Kind<Self> {
        &context.ledgers
    }

    fn let_go(_: ObjectMeta, _: Arc<Context>) -> BoxFuture<'static, Result<(), Failure>> {
        // It has no finalizer of ours.
        std::future::ready(Ok(())).boxed()
    }

    fn reconcile(self: Arc<Self>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Failure>> {
        async move { pass(&self, &context).await }.boxed()
    }
}

/// What a look at the ledger came to.
struct Found {
    summary: Summary,
    again: Option<Duration>,
    failure: Option<Error>,
}

async fn pass(object: &SackerLedger, context: &Context) -> Result<Action, Failure> {
    let previous = context.written.latest(object);
    let found = look(object, context, &previous).await;
    let (polled, packages) = context.polls.state(&object.name_any());
    let generation = object.metadata.generation;
    let now = context.clock.now();
    let mut status = previous.clone();
    status.observed_generation = generation;
    status.conditions = found.summary.conditions(&previous.conditions, generation, now);
    status.last_handled_reconcile_at = requested_at(&object.metadata).map(str::to_owned);
    status.versions = numbering(object);
    if let Some(polled) = polled {
        status.packages = i64::try_from(packages).ok();
        if is_due(&previous, polled) {
            status.last_poll_time = Some(time::format(polled));
        }
    }
    status::write(context, LEDGER_MANAGER, object, &previous, &status).await?;
    let before = find(&previous.conditions, ConditionType::Ready).map(|ready| ready.reason.as_str());
    if before != Some(found.summary.reason.as_str()) {
        let good = found.summary.ready == ConditionStatus::True;
        let severity = if good { Severity::Normal } else { Severity::Warning };
        let Summary { reason, message, .. } = &found.summary;
        context.events.publish(object.object_ref(&()), severity, *reason, message, now);
    }
    match (found.failure, found.again) {
        (Some(error), _) => Err(Failure::Ledger(error)),
        (None, again) => Ok(Action::requeue(jitter(again.unwrap_or(POLL_TIME)))),
    }
}

/// Whether the time of the last poll is worth a write.
fn is_due(status: &SackerLedgerStatus, polled: Timestamp) -> bool {
    let shown = status.last_poll_time.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
    shown.is_none_or(|shown| polled.duration_since(shown).unsigned_abs() >= POLL_TIME)
}

/// What is known of the numbering without asking: only S3 has a choice.
fn numbering(object: &SackerLedger) -> Option<String> {
    match object.spec.ledger.parse::<LedgerUri>().ok()? {
        LedgerUri::Dynamo(_) | LedgerUri::File(_) | LedgerUri::ZooKeeper(_) | LedgerUri::Git(_) => {
            Some("sequence".to_owned())
        }
        LedgerUri::S3(location) => location.versions.map(|numbering| numbering.as_str().to_owned()),
    }
}

async fn look(object: &SackerLedger, context: &Context, previous: &SackerLedgerStatus) -> Found {
    let settled = |summary| Found { summary, again: None, failure: None };
    let invalid = |error: &Error| settled(Summary::stalled(Reason::InvalidSpec, error.to_string()));
    let uri = match object.spec.ledger.parse::<LedgerUri>() {
        Ok(uri) => uri,
        Err(error) => return invalid(&error),
    };
    if let Some(Err(error)) = object.spec.store.as_ref().map(|store| store.parse::<StoreUri>()) {
        return invalid(&error);
    }
    let open = match context.pool.get(&uri).await {
        Ok(open) => open,
        Err(error) => return invalid(&error),
    };
    if let Health::Down(message) = open.health() {
        // Its recovery wakes this object.
        return settled(Summary::unknown(Reason::LedgerUnavailable, format!("{message}; {}", reach(&uri))));
    }
    let ready = find(&previous.conditions, ConditionType::Ready).filter(|ready| ready.status == "True");
    let reachable = || {
        let interval = poll::interval(context, object);
        Summary::ready(Reason::Reachable, format!("the ledger answers; it is polled every {interval:?}"))
    };
    if ready.is_some() && context.probed.has(object) {
        return settled(reachable());
    }
    match open.probe().await {
        Ok(()) => {
            context.probed.note(object);
            settled(reachable())
        }
        Err(error) => refused(&uri, error),
    }
}

/// What to do about a ledger that cannot be reached.
fn reach(uri: &LedgerUri) -> String {
    let place = match uri {
        LedgerUri::Dynamo(location) => match &location.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("DynamoDB in {}", location.region),
        },
        LedgerUri::S3(location) => location.endpoint.clone().unwrap_or_else(|| "S3".to_owned()),
        LedgerUri::File(location) => format!("'{}'", location.path.display()),
        LedgerUri::ZooKeeper(location) => format!("ZooKeeper at {}", location.servers.join(",")),
        LedgerUri::Git(location) => format!("the repository {}", location.url()),
    };
    format!("check that the operator can reach {place}; it is asked again until it answers")
}

/// What a failed probe means, and what to do about it.
fn refused(uri: &LedgerUri, error: Error) -> Found {
    let (class, reason) = place(error.meaning());
    let hint = match error.meaning() {
        Meaning::NotFound(Missing::Backend(_)) => match error.hint() {
            // What `init` cannot make.
            Some(hint) if !hint.contains("create it with") => format!("; {hint}"),
            _ => format!("; create it with: sacker init --ledger {uri}"),
        },
        Meaning::Denied { .. } => "; give the operator's identity this permission".to_owned(),
        Meaning::Unavailable => format!("; {}", reach(uri)),
        _ => error.hint().map(|hint| format!("; {hint}")).unwrap_or_default(),
    };
    let message = format!("{error}{hint}");
    match class {
        Class::Stalled => {
            Found { summary: Summary::stalled(reason, message), again: Some(MENDED * 10), failure: None }
        }
        Class::Waiting => Found {
            summary: Summary::new(ConditionStatus::False, reason, message, Progress::Reconciling),
            again: Some(MENDED),
            failure: None,
        },
        // Unreachable: the pool asks again and wakes this object. Everything else: with growing pauses.
        Class::Transient => {
            let failure = (*error.meaning() != Meaning::Unavailable).then_some(error);
            Found { summary: Summary::unknown(reason, message), again: None, failure }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let uri: LedgerUri = "s3://bucket".parse().expect("a URI");
        let missing = Error::new(Meaning::NotFound(Missing::Backend("bucket 'bucket'".into())), "list");
        let found = refused(&uri, missing);
        assert_eq!(found.summary.reason, Reason::BackendNotFound);
        assert!(
            found.summary.message.contains("sacker init --ledger s3://bucket"),
            "{}",
            found.summary.message
        );
        assert!(found.again.is_some());

        let denied = Meaning::Denied { action: "s3:ListBucket".into(), resource: "bucket".into() };
        let found = refused(&uri, Error::new(denied, "list"));
        assert_eq!((found.summary.reason, found.summary.ready), (Reason::Denied, ConditionStatus::False));

        let found = refused(&uri, Error::new(Meaning::Unavailable, "list"));
        assert_eq!(found.summary.ready, ConditionStatus::Unknown);
        assert!(found.failure.is_none(), "the pool looks after it");
        assert!(found.summary.message.contains("can reach S3"), "{}", found.summary.message);
    }

    #[test]
    fn the_time_of_a_poll_is_written_rarely() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut status = SackerLedgerStatus::default();
        assert!(is_due(&status, at(0)));
        status.last_poll_time = Some(time::format(at(0)));
        assert!(!is_due(&status, at(599)));
        assert!(is_due(&status, at(600)));
    }
}
