//! What a command works with: the resolved settings, and the ledger and the store, opened when first asked for.
//!
//! Opening loads AWS settings, so a command that needs only one of the two opens only that one.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::OnceCell;

use super::actor;
use super::arguments::Global;
use super::message::{Context, Subject, typed};
use super::output::{Printer, print_warning};
use crate::config::{Configuration, Flags, Origin};
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{self, InitOptions, Ledger, TagOutcome};
use crate::model::{
    Actor, Change, Current, EventSource, Next, PackageName, TagChange, TagName, TagState, next_event,
};
use crate::store::{self, Store};

/// One run of one command.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) configuration: Configuration,
    pub(super) connect: Connect,
    pub(super) printer: &'a Printer,
    /// Who acts, for the history.
    pub(super) actor: String,
    /// Where that name comes from.
    pub(super) actor_origin: Origin,
    started: Duration,
    ledger: OnceCell<Arc<dyn Ledger>>,
    store: OnceCell<Arc<dyn Store>>,
}

impl<'a> Session<'a> {
    /// Resolves the settings. Makes no request.
    pub(super) fn new(global: &Global, environment: &Environment, printer: &'a Printer) -> Result<Self> {
        let flags = Flags { ledger: global.ledger.as_deref(), store: &global.store };
        let configuration = Configuration::resolve(flags, environment)?;
        let connect = Connect {
            deadline: global.timeout.unwrap_or(Connect::DEFAULT_DEADLINE),
            environment: environment.clone(),
            ..Connect::default()
        };
        let actor = actor::actor(environment, &actor::host());
        Ok(Self {
            started: connect.clock.monotonic(),
            connect,
            configuration,
            printer,
            actor: actor.value,
            actor_origin: actor.origin,
            ledger: OnceCell::new(),
            store: OnceCell::new(),
        })
    }

    /// Where the built-in default is, if nothing is configured.
    pub(super) fn local_default(&self) -> Option<String> {
        let ledger = self.configuration.ledger().ok().filter(|ledger| ledger.origin == Origin::Default)?;
        let uri = ledger.value.to_string();
        let place = uri.trim_start_matches("file://").trim_end_matches("/ledger");
        Some(format!("'{place}'"))
    }

    /// The ledger. Tells once when it is the built-in default.
    pub(super) async fn ledger(&self) -> Result<&Arc<dyn Ledger>> {
        let setting = self.configuration.ledger()?;
        let open = async || {
            if let Some(place) = self.local_default() {
                self.printer.note(format_args!("no ledger or store is configured; using {place}"));
            }
            ledger::open(&setting.value, &self.connect).await
        };
        self.ledger.get_or_try_init(open).await
    }

    /// The store.
    pub(super) async fn store(&self) -> Result<&Arc<dyn Store>> {
        let setting = self.configuration.store()?;
        let open = || store::open_all(&setting.value, &self.connect);
        self.store.get_or_try_init(open).await
    }

    /// Waits until what an interrupted command left behind is cleaned up.
    pub(super) async fn settle(&self) {
        if let Some(store) = self.store.get() {
            store.settle().await;
        }
    }

    /// Creates the built-in default ledger and store, if it is them that are used: they need no `init`, since nothing
    /// but a home directory was asked for.
    pub(super) async fn prepare_local_default(&self) -> Result<()> {
        if self.local_default().is_some() {
            self.ledger().await?.init(&InitOptions::default()).await?;
            self.store().await?.init().await?;
        }
        Ok(())
    }

    /// The error for a tag that is not there, saying which of the two is missing: the package or the tag.
    pub(super) async fn no_tag(&self, package: &PackageName, tag: &TagName) -> Error {
        let package_is_there = async { self.ledger().await?.tags(package).await };
        match package_is_there.await {
            Err(error) if error.is_not_found() => error,
            _ => Error::not_found(Missing::Tag(package.clone(), tag.clone())),
        }
    }

    /// Changes a tag.
    pub(super) async fn change_tag(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        match self.ledger().await?.change_tag(package, tag, change).await {
            Err(error) if matches!(error.meaning(), Meaning::NotFound(Missing::Tag(..))) => {
                Err(self.no_tag(package, tag).await)
            }
            outcome => outcome,
        }
    }

    /// What the ledger would do with a change of a tag that is as `state` says, for a dry run.
    pub(super) fn decide(&self, state: Option<&TagState>, change: &TagChange) -> Result<Next> {
        let current = Current {
            version: state.and_then(|state| state.version),
            last: state.and_then(|state| state.event.clone()),
        };
        next_event(&current, change, self.connect.clock.now())
            .map_err(|meaning| Error::new(meaning, "change the tag"))
    }

    /// A change of a tag by this user.
    pub(super) fn tag_change(&self, change: Change, reason: Option<&String>) -> TagChange {
        let actor = Actor { by: self.actor.clone(), reason: reason.cloned(), source: EventSource::Cli };
        TagChange::new(change, actor)
    }

    /// The owner that `--take-over` makes of a tag.
    pub(super) fn owner(&self) -> String {
        format!("cli:{}", self.actor)
    }

    /// `sacker` for these settings: flags have to be typed again, the rest is found again.
    pub(super) fn program(&self) -> String {
        let mut program = "sacker".to_owned();
        let mut add = |origin: &Origin, uri: String| {
            if let Origin::Flag(flag) = origin {
                // Writing to a String cannot fail.
                let _ = write!(program, " {flag} {}", typed(&uri));
            }
        };
        if let Ok(ledger) = self.configuration.ledger() {
            add(&ledger.origin, ledger.value.to_string());
        }
        if let Ok(stores) = self.configuration.store() {
            stores.value.iter().for_each(|store| add(&stores.origin, store.to_string()));
        }
        program
    }

    /// What messages say about the surroundings.
    pub(super) fn context(&self, subject: Subject) -> Context {
        Context {
            subject,
            ledger: self.configuration.ledger().ok().map(|ledger| ledger.value.to_string()),
            store: self.configuration.store().ok().map(|store| store.value.to_string()),
            deadline: self.connect.deadline,
            elapsed: self.connect.clock.monotonic().saturating_sub(self.started),
            init: self.program() + " init",
            verbose: false,
        }
    }
}

/// Says so where a change was made and its copy in the history was not yet.
pub(super) fn warn_of_pending_archive(outcome: &TagOutcome) {
    if outcome.archive_pending {
        print_warning(format_args!(
            "the move stands, but its copy in the history could not be written; the next 'sacker history' writes it"
        ));
    }
}

/// Returns when the user or the system wants the process to end.
pub(super) async fn interrupted() {
    let wait = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without a handler the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}
