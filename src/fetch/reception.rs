//! The parts of a blob on their way from a store to the thread that hashes them: several connections, each part once.
//!
//! What is asked for when is decided by the [`Plan`]; this carries it out. Not responsible for verifying.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::future::{AbortHandle, Aborted, abortable};
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::assembly::{Assembly, Output};
use super::budget::Budget;
use super::partial::Left;
use super::pipeline::{Outcome, Pipeline, Stopped};
use super::plan::{Plan, ROUND, Sizes};
use super::transfer::Transfer;
use super::{Artifact, Patience};
use crate::error::{Error, Result};
use crate::store::{Progress, Store};

/// Why a blob did not arrive.
enum Broken {
    /// The store.
    Store(Error),
    /// The thread gave up; it has the reason.
    Output(Stopped),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Stopped> for Broken {
    fn from(stopped: Stopped) -> Self {
        Self::Output(stopped)
    }
}

/// A store, and what is asked of it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) artifact: &'a Artifact,
    pub(super) patience: Patience,
}

impl<'a> Source<'a> {
    /// Asks for the first bytes of a range; the answer says how large the blob is.
    ///
    /// # Errors
    /// As [`Transfer::first`].
    pub(super) async fn first(self, range: Range<u64>) -> Result<Transfer<'a>> {
        Transfer::first(self.store, self.artifact, self.patience, range).await
    }

    /// Brings what is not [`Left`] to `output`, through a thread that hashes it. `first` is the transfer of the first part, if
    /// it has begun. Returns the blob's size, and what became of the output.
    ///
    /// # Errors
    /// The store's, once a part failed for good.
    pub(super) async fn receive<O: Output>(
        self,
        left: Left,
        sizes: Sizes,
        first: Option<Transfer<'a>>,
        output: O,
        budget: &Budget,
        progress: Progress<'a>,
    ) -> Result<(u64, io::Result<Outcome<O>>)> {
        let Left { size, part, here } = left;
        let plan = Mutex::new(Plan::new(size, sizes, &here));
        let pipeline = Pipeline::start(Assembly::new(size, part, here, budget.clone(), output));
        let reception = Reception { source: self, size, plan, pipeline: &pipeline, progress };
        match reception.run(first).await {
            Err(Broken::Store(error)) => {
                pipeline.abandon().await;
                Err(error)
            }
            Ok(()) | Err(Broken::Output(Stopped)) => Ok((size, pipeline.finish().await)),
        }
    }
}

struct Reception<'a, O> {
    source: Source<'a>,
    size: u64,
    plan: Mutex<Plan>,
    pipeline: &'a Pipeline<O>,
    progress: Progress<'a>,
}

impl<O: Output> Reception<'_, O> {
    async fn run(&self, mut first: Option<Transfer<'_>>) -> Result<(), Broken> {
        let start = Instant::now();
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = FuturesUnordered::new();
        let mut handles: Vec<(usize, AbortHandle)> = Vec::new();
        loop {
            while let Some((index, missing)) = self.start(start) {
                let transfer = first.take().unwrap_or_else(|| self.transfer(missing));
                let (part, handle) = abortable(self.part(index, transfer));
                handles.push((index, handle));
                running.push(part);
            }
            if self.plan().is_complete() {
                return Ok(());
            }
            if self.pipeline.is_stopped() {
                return Err(Stopped.into());
            }
            tokio::select! {
                Some(ended) = running.next() => match ended {
                    Ok((index, Ok(()))) => {
                        self.plan().finish(index, start.elapsed());
                        // A second request for it that came to nothing.
                        handles.retain(|(of, handle)| {
                            if *of == index {
                                handle.abort();
                            }
                            *of != index
                        });
                    }
                    Ok((index, Err(broken))) => {
                        let is_alone = handles.iter().filter(|(of, _)| *of == index).count() < 2;
                        if is_alone || matches!(broken, Broken::Output(_)) {
                            return Err(broken);
                        }
                        // The other request for the same part goes on.
                        if let Some(at) = handles.iter().position(|(of, _)| *of == index) {
                            handles.swap_remove(at);
                        }
                    }
                    Err(Aborted) => {}
                },
                () = self.pipeline.moved() => {}
                _ = ticks.tick() => {
                    let hashed = self.pipeline.hashed();
                    let mut plan = self.plan();
                    plan.measure(start.elapsed(), self.pipeline.is_held_up());
                    if let Some(index) = plan.race(hashed, start.elapsed()) {
                        tracing::debug!("{}: part {index} is slow; asking again", self.source.artifact.label);
                        let transfer = self.transfer(plan.missing(index));
                        drop(plan);
                        let (part, handle) = abortable(self.part(index, transfer));
                        handles.push((index, handle));
                        running.push(part);
                    }
                }
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Its numbers are changed one at a time, so a panic elsewhere leaves none in pieces.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, start: Instant) -> Option<(usize, Range<u64>)> {
        let mut plan = self.plan();
        let index = plan.start(self.pipeline.hashed(), start.elapsed())?;
        Some((index, plan.missing(index)))
    }

    fn transfer(&self, range: Range<u64>) -> Transfer<'_> {
        let Source { store, artifact, patience } = self.source;
        Transfer::part(store, artifact, patience, self.size, range)
    }

    async fn part(&self, index: usize, mut transfer: Transfer<'_>) -> (usize, Result<(), Broken>) {
        let outcome = async {
            while let Some(bytes) = transfer.next().await? {
                let length = bytes.len() as u64;
                let offset = transfer.offset() - length;
                let room = self.pipeline.room(bytes.len()).await?;
                // From here to the push without a pause: of two requests for a part, none may get between.
                let new = self.plan().receive(index, offset, length);
                if new > 0 {
                    let known = length - new;
                    let rest = bytes.slice(usize::try_from(known).unwrap_or(bytes.len())..);
                    self.pipeline.push(room, offset + known, rest)?;
                    (self.progress)(new);
                }
                if self.plan().missing(index).is_empty() {
                    break;
                }
            }
            Ok(())
        };
        (index, outcome.await)
    }
}
