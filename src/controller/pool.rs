//! Open ledgers, one per URI, with the one fact about each that all its users share: whether it can be reached.
//!
//! A ledger that is down is found out once and asked by one task only, with growing pauses; everybody else waits for
//! its recovery. Calls to one ledger are limited in number, so that a slow one costs its own users and nobody else.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

use super::backoff::full_jitter;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::ledger::{self, Ledger, ViewCache};
use crate::model::{LedgerUri, PackageName, PackageView};

/// Calls to one ledger at the same time: half of what the controllers run at once ([`super::CONCURRENCY`]), so that a
/// ledger that hangs leaves the other half to the others.
const PERMITS: usize = 8;

/// How long a call waits for its turn before it gives up as `Throttled`.
const TURN: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to reach a ledger that is down.
const RECOVERY_PAUSE: Duration = Duration::from_secs(15);

/// Opens ledgers; another implementation serves the tests.
#[async_trait]
pub trait Opener: Send + Sync + Debug {
    /// Opens the ledger at `uri`. Makes no request.
    async fn open(&self, uri: &LedgerUri) -> Result<Arc<dyn Ledger>>;
}

/// Opens real ledgers.
#[derive(Debug)]
pub struct ConnectOpener(pub Connect);

#[async_trait]
impl Opener for ConnectOpener {
    async fn open(&self, uri: &LedgerUri) -> Result<Arc<dyn Ledger>> {
        ledger::open(uri, &self.0).await
    }
}

/// Whether a ledger can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As far as anybody knows.
    Up,
    /// It cannot, as this message says.
    Down(String),
}

/// An open ledger.
#[derive(Debug)]
pub struct OpenLedger {
    uri: LedgerUri,
    ledger: Arc<dyn Ledger>,
    health: watch::Sender<Health>,
    turns: Semaphore,
    changes: mpsc::UnboundedSender<LedgerUri>,
}

impl OpenLedger {
    /// Whether it can be reached.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Ends when the ledger can be reached; at once if it can.
    pub async fn wait_until_up(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.health.subscribe().wait_for(|health| *health == Health::Up).await;
    }

    /// Makes one call, in its turn. A ledger that turns out to be unreachable is marked as down for everybody.
    ///
    /// # Errors
    /// Those of the call; `Unavailable` at once while the ledger is known to be down; `Throttled` when no turn comes up
    /// within 5 s.
    pub async fn call<'a, T, F, Fut>(self: &'a Arc<Self>, call: F) -> Result<T>
    where
        F: FnOnce(&'a dyn Ledger) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        if let Health::Down(message) = self.health() {
            return Err(Error::new(Meaning::Unavailable, "ask the ledger").with_hint(message));
        }
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Error::new(Meaning::Throttled, "wait for a turn at the ledger"));
        };
        let result = call(self.ledger.as_ref()).await;
        if let Err(error) = &result
            && *error.meaning() == Meaning::Unavailable
        {
            self.mark_down(error);
        }
        result
    }

    /// What mirrors of these packages show, in one turn. A ledger that does not answer for one of them counts as down, as it
    /// does for [`OpenLedger::call`].
    pub async fn views(
        self: &Arc<Self>,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)> {
        let views = self.call(|ledger| async move { Ok(ledger.views(packages, known).await) }).await;
        match views {
            Ok(views) => {
                let errors = views.iter().filter_map(|(_, view)| view.as_ref().err());
                if let Some(error) = errors.into_iter().find(|error| *error.meaning() == Meaning::Unavailable)
                {
                    self.mark_down(error);
                }
                views
            }
            Err(error) => packages.iter().map(|package| (package.clone(), Err(error.alike()))).collect(),
        }
    }

    /// A read that is cheap everywhere and fails as every other call would: the first package.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn probe(self: &Arc<Self>) -> Result<()> {
        self.call(|ledger| async move { ledger.packages().next().await.transpose().map(drop) }).await
    }

    fn mark_down(self: &Arc<Self>, error: &Error) {
        let message = error.to_string();
        let newly = self.health.send_if_modified(|health| {
            let newly = *health == Health::Up;
            if newly {
                *health = Health::Down(message.clone());
            }
            newly
        });
        if newly {
            warn!(ledger = %self.uri, error = %message, "the ledger cannot be reached; its objects wait");
            let _ = self.changes.send(self.uri.clone());
            tokio::spawn(recover(Arc::downgrade(self)));
        }
    }

    fn mark_up(&self) {
        info!(ledger = %self.uri, "the ledger can be reached again");
        self.health.send_replace(Health::Up);
        let _ = self.changes.send(self.uri.clone());
    }
}

/// Asks a ledger that is down until it answers, or nobody uses it any more.
async fn recover(ledger: Weak<OpenLedger>) {
    for failures in 0.. {
        tokio::time::sleep(full_jitter(Duration::from_secs(1), RECOVERY_PAUSE, failures)).await;
        let Some(ledger) = ledger.upgrade() else { return };
        match ledger.ledger.packages().next().await {
            Some(Err(error)) if *error.meaning() == Meaning::Unavailable => {}
            // Any other answer is an answer.
            _ => return ledger.mark_up(),
        }
    }
}

/// All open ledgers.
#[derive(Debug)]
pub struct Pool {
    opener: Arc<dyn Opener>,
    open: Mutex<HashMap<LedgerUri, Arc<OpenLedger>>>,
    changes: mpsc::UnboundedSender<LedgerUri>,
}

impl Pool {
    /// A pool, and the stream of ledgers whose health changed.
    pub fn new(opener: Arc<dyn Opener>) -> (Self, mpsc::UnboundedReceiver<LedgerUri>) {
        let (changes, changed) = mpsc::unbounded_channel();
        (Self { opener, open: Mutex::default(), changes }, changed)
    }

    fn open_ledgers(&self) -> std::sync::MutexGuard<'_, HashMap<LedgerUri, Arc<OpenLedger>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger at `uri`, opened if it is not yet.
    ///
    /// # Errors
    /// Those of opening: `Invalid`.
    pub async fn get(&self, uri: &LedgerUri) -> Result<Arc<OpenLedger>> {
        if let Some(open) = self.open_ledgers().get(uri) {
            return Ok(open.clone());
        }
        let ledger = self.opener.open(uri).await?;
        let opened = || {
            Arc::new(OpenLedger {
                uri: uri.clone(),
                ledger,
                health: watch::Sender::new(Health::Up),
                turns: Semaphore::new(PERMITS),
                changes: self.changes.clone(),
            })
        };
        Ok(self.open_ledgers().entry(uri.clone()).or_insert_with(opened).clone())
    }

    /// Closes the ledgers that are not in `used`.
    pub fn retain(&self, used: &HashSet<LedgerUri>) {
        self.open_ledgers().retain(|uri, _| used.contains(uri));
    }
}
