//! The parts of a blob on their way from a store to the thread that hashes them: several connections, each part once.
//!
//! What is asked for when is decided by the [`Plan`]; this carries it out. Not responsible for verifying.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{AbortHandle, Aborted, abortable};
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::assembly::{Assembly, Output};
use super::budget::Budget;
use super::partial::Left;
use super::pipeline::{Outcome, Pipeline, Stopped};
use super::plan::{Plan, Sizes, TICK};
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
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = FuturesUnordered::new();
        let mut handles: Vec<(usize, AbortHandle)> = Vec::new();
        // Requests whose next part would be too far ahead.
        let mut waiting: Vec<(usize, Transfer<'_>)> = Vec::new();
        loop {
            while let Some((index, transfer)) = self.next(&mut waiting, &mut first, start.elapsed()) {
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
                    Ok((index, Ok(transfer))) => {
                        let mut plan = self.plan();
                        if plan.finish(index, start.elapsed(), transfer.has_more()) {
                            waiting.push((index + 1, transfer));
                        }
                        if self.pipeline.is_held_up() {
                            plan.hold_back();
                        }
                        drop(plan);
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
                    if let Some(index) = plan.race(hashed, start.elapsed(), self.source.patience.slow) {
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

    /// The next part, and the request that brings it: one that is there already, or a new one. `first` began before the
    /// plan, for the first part.
    fn next<'t>(
        &'t self,
        waiting: &mut Vec<(usize, Transfer<'t>)>,
        first: &mut Option<Transfer<'t>>,
        now: Duration,
    ) -> Option<(usize, Transfer<'t>)> {
        let (mut plan, hashed) = (self.plan(), self.pipeline.hashed());
        if let Some(index) = plan.resume(hashed, now) {
            let at = waiting.iter().position(|(of, _)| *of == index)?;
            return Some(waiting.swap_remove(at));
        }
        let index = plan.start(hashed, now)?;
        let transfer = first.take().unwrap_or_else(|| self.transfer(plan.request(index)));
        Some((index, transfer))
    }

    fn transfer(&self, range: Range<u64>) -> Transfer<'_> {
        let Source { store, artifact, patience } = self.source;
        Transfer::part(store, artifact, patience, self.size, range)
    }

    /// Brings a part, and gives back its request, which may have more.
    async fn part<'t>(
        &'t self,
        index: usize,
        mut transfer: Transfer<'t>,
    ) -> (usize, Result<Transfer<'t>, Broken>) {
        let end = self.plan().missing(index).end;
        let outcome = async {
            loop {
                while let Some(bytes) = transfer.next_before(end).await? {
                    if self.hand_on(index, transfer.offset(), bytes).await? {
                        return Ok(transfer);
                    }
                }
                // The first request may have been for less than a part: it was made before the blob's size was known.
                let missing = self.plan().missing(index);
                if missing.is_empty() {
                    return Ok(transfer);
                }
                transfer = self.transfer(missing);
            }
        };
        (index, outcome.await)
    }

    /// Hands on the bytes of a part that end at `end`, but for those that another request brought. Says whether the part is
    /// complete.
    async fn hand_on(&self, index: usize, end: u64, bytes: Bytes) -> Result<bool, Broken> {
        let length = bytes.len() as u64;
        let offset = end - length;
        let room = self.pipeline.room(bytes.len()).await?;
        // From here to the push without a pause: of two requests for a part, none may get between.
        let mut plan = self.plan();
        let new = plan.receive(index, offset, length);
        let is_complete = plan.missing(index).is_empty();
        drop(plan);
        if new > 0 {
            let known = length - new;
            let rest = bytes.slice(usize::try_from(known).unwrap_or(bytes.len())..);
            self.pipeline.push(room, offset + known, rest)?;
            (self.progress)(new);
        }
        Ok(is_complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Connect;
    use crate::fetch::partial::Stream;
    use crate::model::Sha256;
    use crate::store::{self, BlobFile};

    #[tokio::test]
    async fn the_rest_of_a_part_is_asked_for_where_the_first_request_was_for_less() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bytes: Vec<u8> = (0..45).collect();
        let path = directory.path().join("blob");
        std::fs::write(&path, &bytes).expect("written");
        let uri = format!("file://{}/store", directory.path().display()).parse().expect("a store URI");
        let store = store::open(&uri, &Connect::default()).await.expect("a store");
        let sha256 = Sha256::of(&bytes);
        store.init().await.expect("a directory");
        store.put(BlobFile { path: &path, sha256, size: 45, scan: None }, &|_| {}).await.expect("stored");
        let artifact = Artifact { label: "a@1".to_owned(), sha256, size: None, basename: None, mode: None };
        let source = Source { store: &*store, artifact: &artifact, patience: Patience::default() };

        let first = source.first(0..10).await.expect("the first bytes");
        let left = Left::nothing(first.size(), 20);
        let sizes = Sizes { part: 20, ahead: 40, connections: 2 };
        let received =
            source.receive(left, sizes, Some(first), Stream(Vec::new()), &Budget::default(), &|_| {}).await;
        let (size, outcome) = received.expect("all parts");
        let verified = outcome.expect("all bytes").verify(&artifact).expect("the right ones");
        assert_eq!((size, verified.into_output().0), (45, bytes));
    }
}
