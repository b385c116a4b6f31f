//! The SackerPackage controller: shows what the poll saw, in the status and in a ConfigMap. It never writes a ledger and
//! never reads one itself, so it can run alone with a read-only identity.

mod config_map;
mod mirror;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use self::config_map::Published;
use super::backoff::jitter;
use super::cluster::{self, Ledger};
use super::context::{Context, Kind, Name};
use super::driver::Reconcile;
use super::error::Failure;
use super::events::{Severity, is_news};
use super::status;
use super::views::Seen;
use crate::api::conditions::{ConditionStatus, ConditionType, Progress, Summary, find};
use crate::api::{RESOLVER_MANAGER, Reason, SackerPackage, SackerPackageStatus, requested_at};
use crate::model::{PackageName, PackageView, Verb};

/// How often to look again at a ConfigMap of someone else: it has none of our labels, so no watch tells when it goes.
const FOREIGN: std::time::Duration = std::time::Duration::from_mins(1);

impl Reconcile for SackerPackage {
    const NAME: Name = Name::Resolver;
    const MANAGER: &'static str = RESOLVER_MANAGER;

    fn objects(context: &Context) -> &Kind<Self> {
        &context.packages
    }

    fn let_go(_: ObjectMeta, _: Arc<Context>) -> BoxFuture<'static, Result<(), Failure>> {
        // It has no finalizer of ours.
        std::future::ready(Ok(())).boxed()
    }

    fn reconcile(self: Arc<Self>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Failure>> {
        async move { pass(&self, &context).await }.boxed()
    }
}

/// What there is to show.
enum Shown {
    /// Nothing new: say this, and keep what is there.
    Kept(Summary),
    /// The package.
    View(Arc<Seen>),
}

async fn pass(object: &SackerPackage, context: &Context) -> Result<Action, Failure> {
    // Deletion needs nothing from us: the ConfigMap goes with its owner.
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let previous = context.written.latest(object);
    let mut next = previous.clone();
    let mut action = Action::await_change();
    let summary = match look(object, context).await {
        Shown::Kept(summary) => summary,
        Shown::View(seen) => match seen.as_ref() {
            Seen::View(view) => {
                mirror::show(&mut next, view);
                match config_map::publish(object, context, view).await? {
                    Published::None => next.published_config_map = None,
                    Published::As(name) => next.published_config_map = Some(name),
                    Published::Refused(reason, message) => {
                        next.published_config_map = None;
                        let summary = Summary::stalled(reason, message);
                        finish(object, context, &previous, next, &summary).await?;
                        return Ok(Action::requeue(jitter(FOREIGN)));
                    }
                }
                mirrored(view)
            }
            Seen::Absent => {
                mirror::show(&mut next, &PackageView::default());
                let message = format!("the ledger has no package '{}' yet", object.spec.package);
                Summary::waiting(Reason::PackageNotFound, message)
            }
            Seen::Failed { reason, message } => {
                action = Action::requeue(jitter(super::SLOW));
                Summary::waiting(*reason, message.clone())
            }
        },
    };
    finish(object, context, &previous, next, &summary).await?;
    Ok(action)
}

fn mirrored(view: &PackageView) -> Summary {
    let plural = |count: usize, word: &str| {
        if count == 1 { format!("{count} {word}") } else { format!("{count} {word}s") }
    };
    let versions = usize::try_from(view.version_count).unwrap_or(usize::MAX);
    let message = format!("{} and {}", plural(versions, "version"), plural(view.tags.len(), "tag"));
    Summary::ready(Reason::Mirrored, message)
}

async fn look(object: &SackerPackage, context: &Context) -> Shown {
    let spec = &object.spec;
    if spec.suspend {
        return Shown::Kept(Summary::new(
            ConditionStatus::Unknown,
            Reason::Suspended,
            "spec.suspend is set: the status stays as it is",
            Progress::Settled,
        ));
    }
    let package = match PackageName::new(&spec.package) {
        Ok(package) => package,
        Err(error) => return Shown::Kept(Summary::stalled(Reason::InvalidSpec, error.to_string())),
    };
    let (access, down) = match cluster::ledger(context, &spec.ledger).await {
        Ledger::Missing(message) => return Shown::Kept(Summary::waiting(Reason::LedgerNotFound, message)),
        Ledger::NotReady(message) => return Shown::Kept(Summary::waiting(Reason::LedgerNotReady, message)),
        Ledger::Down { message, access } => (access, Some(message)),
        Ledger::Ready { access, .. } => (access, None),
    };
    let namespace = object.namespace().unwrap_or_default();
    if let Some(denial) = cluster::denial(context, &access, &namespace, &package, Verb::Read) {
        return Shown::Kept(Summary::stalled(Reason::NotGranted, denial));
    }
    if let Some(message) = down {
        return Shown::Kept(Summary::unknown(Reason::LedgerUnavailable, message));
    }
    if let Some(seen) = context.views.get(&spec.ledger, &package) {
        return Shown::View(seen);
    }
    context.polls.refresh(&spec.ledger, &package);
    Shown::Kept(Summary::unknown(Reason::Progressing, "the package is being read"))
}

async fn finish(
    object: &SackerPackage,
    context: &Context,
    previous: &SackerPackageStatus,
    mut status: SackerPackageStatus,
    summary: &Summary,
) -> Result<(), Failure> {
    let generation = object.metadata.generation;
    let now = context.clock.now();
    let before = find(&previous.conditions, ConditionType::Ready);
    let is_known = before.is_some_and(|ready| {
        ready.observed_generation == generation && ready.reason != Reason::Progressing.as_str()
    });
    // After a restart the first look takes a moment: what is known need not be doubted meanwhile.
    if summary.reason == Reason::Progressing && is_known {
        return Ok(());
    }
    status.observed_generation = generation;
    status.conditions = summary.conditions(&previous.conditions, generation, now);
    status.last_handled_reconcile_at = requested_at(&object.metadata).map(str::to_owned);
    status::write(context, RESOLVER_MANAGER, object, previous, &status).await?;
    if is_news(before.map(|ready| ready.reason.as_str()), summary) && summary.reason != Reason::Progressing {
        let severity =
            if summary.progress == Progress::Stalled { Severity::Warning } else { Severity::Normal };
        context.events.publish(object.object_ref(&()), severity, summary.reason, &summary.message, now);
    }
    Ok(())
}
