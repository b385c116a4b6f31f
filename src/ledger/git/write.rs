//! Writes: commits on top of the branch, pushed fast-forward only. The server's compare-and-swap of the branch decides.
//!
//! Writes of one client that come together are pushed together, a commit each. Where the branch moved meanwhile, each
//! write's own precondition is looked at again on the new tip, and what still holds is made anew on top of that. Nothing is
//! ever forced.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::command::Deadline;
use super::contents::Found;
use super::failure::Failure;
use super::push::{Outcome, build, push};
use super::repository::{Repository, Tip};
use super::stream::Commit;
use super::{message, path};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::ledger::{Companion, Precondition, Put, Revision};

/// So many writes are pushed together, and so many bytes.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 8 << 20;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: String,
    /// Nothing: the key is removed, if it is there.
    pub(super) bytes: Option<Bytes>,
    pub(super) precondition: Precondition,
    pub(super) companion: Option<Companion>,
}

/// What a write came to, and whether its companion is written too.
type Written = (Put, bool);

#[derive(Debug)]
struct Pending {
    write: Write,
    reply: oneshot::Sender<Result<Written>>,
}

/// What a write comes to on a certain tip.
enum Decision {
    Write { with_companion: bool },
    Refuse,
    Fail(Error),
}

/// The writes of a client that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Pending>>,
    turn: Arc<AsyncMutex<()>>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next writes to go together. Those that nobody waits for any more are left out.
    fn take(&self) -> Vec<Pending> {
        let mut waiting = self.waiting();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < TOGETHER && bytes < TOGETHER_BYTES {
            let Some(pending) = waiting.pop_front() else { break };
            if !pending.reply.is_closed() {
                bytes += pending.write.bytes.as_ref().map_or(0, Bytes::len);
                taken.push(pending);
            }
        }
        taken
    }

    /// Carries out a write, together with others that wait.
    ///
    /// Dropped before the end, a write that was begun is carried on to its end or its deadline.
    pub(super) async fn put(&self, repository: &Arc<Repository>, write: Write) -> Result<Written> {
        let open = || {
            Error::new(Meaning::Unavailable, "write a record")
                .with_key(repository.location.url())
                .with_source("other writes of this process took too long")
        };
        let deadline = repository.deadline();
        let (reply, mut answer) = oneshot::channel();
        self.waiting().push_back(Pending { write, reply });
        let work = async {
            loop {
                let turn = tokio::select! {
                    biased;
                    answer = &mut answer => return answer.unwrap_or_else(|_| Err(open())),
                    turn = self.turn.clone().lock_owned() => turn,
                };
                let together = self.take();
                if together.is_empty() {
                    drop(turn);
                    return answer.await.unwrap_or_else(|_| Err(open()));
                }
                let (repository, deadline) = (repository.clone(), deadline.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    Batch::new(&repository, together, deadline).carry_out().await;
                });
            }
        };
        // The steps keep to the deadline themselves, and say what they know; this is for those who wait for others.
        let patience = deadline.left() + std::time::Duration::from_secs(2);
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(open()))
    }
}

/// Writes that go together.
struct Batch<'a> {
    repository: &'a Repository,
    open: Vec<Pending>,
    deadline: Deadline,
    /// Whether the turn among the writers of this machine was asked for, and the turn.
    has_asked: bool,
    turn: Option<File>,
    /// What the last look said, where it began after all of these writes did.
    fresh: Option<Arc<Tip>>,
}

impl<'a> Batch<'a> {
    fn new(repository: &'a Repository, open: Vec<Pending>, deadline: Deadline) -> Self {
        Self { repository, open, deadline, has_asked: false, turn: None, fresh: None }
    }

    async fn carry_out(mut self) {
        let mut backoff = self.repository.backoff(&self.deadline);
        let mut mended = 0;
        while !self.open.is_empty() {
            let failure = match self.round().await {
                Ok(Outcome::Landed) => continue,
                Ok(Outcome::Moved) => {
                    self.fresh = None;
                    if backoff.pause().await {
                        continue;
                    }
                    let error = Error::new(Meaning::Throttled, "win the race for the branch");
                    error.with_key(self.repository.location.url())
                }
                Err(Failure::Broken(said)) => {
                    self.fresh = None;
                    match self.repository.mend(said, &mut mended).await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(Failure::Error(error)) => error,
            };
            self.turn = None;
            let mut replies = std::mem::take(&mut self.open).into_iter().map(|pending| pending.reply);
            let first = replies.next();
            replies.for_each(|reply| drop(reply.send(Err(failure.alike()))));
            // One gets what lies under it, too.
            let _ = first.map(|reply| reply.send(Err(failure)));
        }
    }

    async fn look(&mut self) -> Result<Arc<Tip>, Failure> {
        let tip = self.repository.present_tip(&self.deadline).await?;
        self.fresh = Some(tip.clone());
        Ok(tip)
    }

    /// The tip to build on: where it costs something to know it, the last one that was seen will do, since the push tells.
    async fn base(&mut self) -> Result<Arc<Tip>, Failure> {
        if let Some(tip) = &self.fresh {
            return Ok(tip.clone());
        }
        match self.repository.last_tip().await {
            Some(tip) if self.repository.local().is_none() => Ok(tip),
            _ => self.look().await,
        }
    }

    /// Decides, and commits what can be: one round of all, or of those that do not meet at one key.
    async fn round(&mut self) -> Result<Outcome, Failure> {
        let mut tip = self.base().await?;
        let mut decided = self.decide(&tip).await?;
        let is_sure = |decided: &[(usize, Decision)]| {
            decided.iter().all(|(_, decision)| matches!(decision, Decision::Write { with_companion: true }))
        };
        if self.fresh.is_none() && !is_sure(&decided) {
            // Only what is current can refuse a write.
            tip = self.look().await?;
            decided = self.decide(&tip).await?;
        }
        let (mut chosen, mut answers) = (Vec::new(), Vec::new());
        for (place, decision) in decided.into_iter().rev() {
            let answer = match decision {
                Decision::Write { with_companion } => {
                    chosen.push((place, with_companion));
                    continue;
                }
                Decision::Refuse => Ok((Put::Refused, false)),
                Decision::Fail(error) => Err(error),
            };
            for (place_of_chosen, _) in &mut chosen {
                *place_of_chosen -= 1;
            }
            answers.push((place, answer));
        }
        self.answer(answers);
        chosen.reverse();
        if chosen.is_empty() {
            return Ok(Outcome::Landed);
        }
        let directory =
            self.repository.cache.ready(&self.repository.git, Some(&tip.commit), &self.deadline).await?;
        if !self.has_asked {
            self.has_asked = true;
            let has_waited;
            (self.turn, has_waited) = self.repository.cache.turn(&self.deadline).await;
            if has_waited || self.repository.local().is_some() {
                // Another one wrote meanwhile: see what is left to do.
                self.look().await?;
                return Ok(Outcome::Landed);
            }
        }
        let commits: Vec<Commit<'_>> = chosen
            .iter()
            .map(|&(place, with_companion)| commit(&self.open[place].write, with_companion))
            .collect::<Result<_>>()?;
        let made = build(self.repository, &directory, Some(&tip.commit), &commits, &self.deadline);
        let made = around("git.commit", made).await?;
        drop(commits);
        let outcome =
            push(self.repository, &directory, Some(&tip.commit), &made.commit, &self.deadline).await?;
        if outcome == Outcome::Landed {
            self.fresh = None;
            // Only to build on: the writes are there, whatever comes of this.
            if self.repository.local().is_none()
                && let Ok(Some(tip)) = self.repository.commit(&made.commit, &self.deadline).await
            {
                self.repository.note(tip).await;
            }
            let written = chosen.into_iter().zip(made.files).map(|((place, with_companion), id)| {
                let put = id.map_or(Put::Refused, |id| Put::Written(Revision(id)));
                (place, Ok((put, with_companion)))
            });
            self.answer(written.rev().collect());
        }
        Ok(outcome)
    }

    /// Answers the writes at these places, which descend.
    fn answer(&mut self, answers: Vec<(usize, Result<Written>)>) {
        if answers.len() == self.open.len() {
            // Before anybody goes on: one who then blocks this thread would keep the turn from other processes.
            self.turn = None;
        }
        for (place, answer) in answers {
            // Who does not listen any more needs no answer.
            let _ = self.open.remove(place).reply.send(answer);
        }
    }

    /// What each write comes to on this tip, by its place. Of writes that meet at one key, the first; the others wait.
    async fn decide(&self, tip: &Tip) -> Result<Vec<(usize, Decision)>, Failure> {
        let mut keys: Vec<&str> = Vec::new();
        let mut decided = Vec::new();
        for (place, pending) in self.open.iter().enumerate() {
            let write = &pending.write;
            let companion = write.companion.as_ref().map(|companion| companion.key.as_str());
            let own: Vec<&str> = companion.into_iter().chain([write.key.as_str()]).collect();
            if own.iter().any(|own| keys.iter().any(|key| path::collide(own, key))) {
                continue;
            }
            keys.extend(own);
            decided.push((place, self.decide_one(tip, write).await?));
        }
        Ok(decided)
    }

    async fn decide_one(&self, tip: &Tip, write: &Write) -> Result<Decision, Failure> {
        let found = self.repository.find(tip, &write.key, &self.deadline).await?;
        if write.bytes.is_none() {
            let is_there = matches!(found, Found::File(_));
            return Ok(if is_there { Decision::Write { with_companion: true } } else { Decision::Refuse });
        }
        match (found, &write.precondition) {
            (Found::Odd(key), _) => {
                return Ok(Decision::Fail(Error::corrupt(
                    self.repository.shown(&key),
                    "it is no regular file",
                )));
            }
            (Found::InTheWay, Precondition::Absent | Precondition::None) => {
                let rule = format!(
                    "'{}' cannot be kept beside what is there: a file or a directory of its name",
                    write.key
                );
                return Ok(Decision::Fail(Error::invalid(rule)));
            }
            (found, precondition) if !holds(&found, precondition) => return Ok(Decision::Refuse),
            _ => {}
        }
        let with_companion = match &write.companion {
            None => true,
            Some(companion) if path::collide(&companion.key, &write.key) => false,
            Some(companion) => {
                let found = self.repository.find(tip, &companion.key, &self.deadline).await?;
                let can_be =
                    matches!(found, Found::Nothing | Found::File(_)) && path::of(&companion.key).is_some();
                can_be && holds(&found, &companion.precondition)
            }
        };
        Ok(Decision::Write { with_companion })
    }
}

fn holds(found: &Found, precondition: &Precondition) -> bool {
    match (found, precondition) {
        (_, Precondition::None) | (Found::Nothing, Precondition::Absent) => true,
        (Found::File(id), Precondition::Revision(revision)) => *id == revision.0,
        _ => false,
    }
}

fn commit(write: &Write, with_companion: bool) -> Result<Commit<'_>> {
    let file = |key: &str| path::of(key).ok_or_else(|| Error::invalid(format!("'{key}' cannot be a path")));
    let mut files = vec![(file(&write.key)?, write.bytes.as_ref())];
    if let Some(companion) = write.companion.as_ref().filter(|_| with_companion) {
        files.push((file(&companion.key)?, Some(&companion.bytes)));
    }
    Ok(Commit { message: message::of(&write.key, write.bytes.as_deref()), files })
}
