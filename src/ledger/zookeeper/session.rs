//! Sessions: made when they are needed, made again when they are lost, and read through so that what is read is current.
//!
//! This is the one layer that repeats requests: reads, and the making of a session, until the deadline of the operation. A
//! write is sent once. Nothing hangs on a session (no watch, no ephemeral node), so one that is in trouble is left to end by
//! itself, and a new one is made rather than waited for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use zookeeper_client::{Client, Error as Failure, SessionState};

use super::failure::{Operation, is_answer};
use super::read_only::is_read_only;
use super::settings::Settings;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::retry::Backoff;

/// How long an operation that failed may take longer to say why.
const LOOK: Duration = Duration::from_millis(500);

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    root: String,
    syncs: Syncs,
}

type CatchUp = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// The sync that is still to begin. Whoever reads meanwhile shares it.
#[derive(Debug, Default)]
struct Syncs {
    next: Mutex<Option<CatchUp>>,
    /// Held by the one under way.
    running: Arc<tokio::sync::Mutex<()>>,
}

impl Session {
    /// Has the server catch up with what the ensemble knows, which what is read on this session afterwards shows.
    ///
    /// Reads at the same time share one request. It begins after each of them did: a read that comes while one is under way
    /// waits for the next.
    async fn catch_up(self: &Arc<Self>) -> Result<(), Failure> {
        let shared = {
            let mut next = self.syncs.next.lock().unwrap_or_else(PoisonError::into_inner);
            let sync = || Self::sync(self.syncs.running.clone(), Arc::downgrade(self)).boxed().shared();
            next.get_or_insert_with(sync).clone()
        };
        shared.await
    }

    /// Whoever waits for it has the session; one that nobody waits for any more must not keep it.
    async fn sync(running: Arc<tokio::sync::Mutex<()>>, session: Weak<Self>) -> Result<(), Failure> {
        let _running = running.lock().await;
        let session = session.upgrade().ok_or(Failure::ClientClosed)?;
        // From here on it is no other reader's.
        session.syncs.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        session.client.sync(&session.root).await
    }

    /// Whether the ledger's own node is there, as of what this session read.
    pub(super) async fn has_root(&self) -> Result<bool, Failure> {
        self.client.check_stat(&self.root).await.map(|stat| stat.is_some())
    }
}

/// The session of one ledger.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) settings: Settings,
    connect: Connect,
    current: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl Sessions {
    pub(super) fn new(settings: Settings, connect: &Connect) -> Self {
        Self { settings, connect: connect.clone(), current: tokio::sync::Mutex::default() }
    }

    /// The pauses of one operation.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.connect.clock.clone(), self.connect.deadline)
    }

    /// A session that is connected, as far as this side knows.
    async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref()
            && session.client.state() == SessionState::SyncConnected
        {
            return Ok(session.clone());
        }
        // Ends it, if its server is still there.
        *current = None;
        let client = self.settings.connect().await?;
        let session = Arc::new(Session { client, root: self.settings.root.clone(), syncs: Syncs::default() });
        Ok(current.insert(session).clone())
    }

    /// Lets the next operation have another session than this one.
    fn leave(&self, session: &Arc<Session>) {
        // Where it is held, somebody is about to look whether the session is connected.
        if let Ok(mut current) = self.current.try_lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session))
        {
            *current = None;
        }
    }

    fn end(&self) -> Duration {
        self.connect.clock.monotonic().saturating_add(self.connect.deadline)
    }

    /// A failure by meaning, after no server did what was asked: perhaps one is there that only may not. Servers that listen
    /// for TLS are not asked; they count as away.
    async fn failed(&self, operation: Operation, path: &str, failure: Failure) -> Error {
        let is_read_only = !is_answer(&failure)
            && !self.settings.is_encrypted
            && tokio::time::timeout(LOOK, is_read_only(&self.settings.servers)).await.unwrap_or(false);
        self.settings.failed(operation, path, if is_read_only { Failure::NotReadOnly } else { failure })
    }

    /// What `work` comes to, unless it takes longer than until `end`.
    async fn until<T>(
        &self,
        end: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let rest = end.saturating_sub(self.connect.clock.monotonic());
        tokio::select! {
            outcome = work => outcome,
            () = self.connect.clock.sleep(rest) => Err(Failure::Timeout),
        }
    }

    /// Reads what was there when this was called, or later. `work` is done again as a whole after trouble. `path` is the node
    /// that it is about.
    pub(super) async fn read<T, F>(
        &self,
        operation: Operation,
        path: &str,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = self.backoff();
        let end = self.end();
        loop {
            let attempt = async {
                let session = self.session().await?;
                let outcome = match session.catch_up().await {
                    Ok(()) => work(session.clone()).await,
                    Err(failure) => Err(failure),
                };
                if outcome.as_ref().is_err_and(|failure| !is_answer(failure)) {
                    self.leave(&session);
                }
                outcome
            };
            let failure = match self.until(end, attempt).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let may_pass = !is_answer(&failure) || failure == Failure::Throttled;
            if !may_pass || !backoff.pause().await {
                return Err(self.failed(operation, path, failure).await);
            }
        }
    }

    /// Sends one write, once. The inner error is a server's answer, and nothing was written then.
    ///
    /// # Errors
    /// `Unavailable` where no server answered: it may be written, or may be yet. `Denied` where no session is given to us.
    pub(super) async fn write<T, F, A>(
        &self,
        operation: Operation,
        path: &str,
        work: impl FnOnce(Arc<Session>) -> F,
    ) -> Result<Result<T, A>>
    where
        F: Future<Output = Result<Result<T, A>, Failure>>,
    {
        let mut backoff = self.backoff();
        let end = self.end();
        let session = loop {
            match self.until(end, self.session()).await {
                Ok(session) => break session,
                // Nothing was sent yet.
                Err(failure) if !is_answer(&failure) && backoff.pause().await => {}
                Err(failure) => return Err(self.failed(operation, path, failure).await),
            }
        };
        match self.until(end, work(session.clone())).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.leave(&session);
                let error =
                    Error::new(Meaning::Unavailable, operation.words).with_key(self.settings.place(path));
                Err(error.with_hint(self.settings.how_to_reach()).with_source(failure))
            }
        }
    }
}
