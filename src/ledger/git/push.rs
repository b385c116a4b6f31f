//! Commits that are made in the clone, and the push that makes them count.
//!
//! # A push whose outcome is not known
//! The same commit is pushed again as long as the branch is where it was: whichever of the two arrives, one commit counts.
//! Once the branch is elsewhere, it has our commit behind it or never will: the push names the commit it replaces, and a branch
//! never comes back to an earlier one.

use std::path::Path;

use super::command::Deadline;
use super::error::{self, Class, Pushed};
use super::failure::Failure;
use super::message;
use super::repository::{ATTEMPTS, Repository};
use super::stream::{self, Commit, Made};
use crate::crash_point::around;
use crate::error::{Error, Meaning};

/// What a push came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The branch has the commit.
    Landed,
    /// The branch moved, and never will have it.
    Moved,
}

/// Makes commits in the clone.
pub(super) async fn build(
    repository: &Repository,
    directory: &Path,
    base: Option<&str>,
    commits: &[Commit<'_>],
    deadline: &Deadline,
) -> Result<Made, Failure> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let stream = stream::write(base, commits, repository.connect.clock.now(), &id);
    let ended =
        repository.git.run(Some(directory), &["fast-import", "--quiet", "--done"], &stream, deadline).await;
    let ended = ended.map_err(|unended| repository.unended(unended, "make a commit"))?;
    let made = stream::read(&ended.text(), commits).filter(|_| ended.is_success());
    made.ok_or_else(|| {
        let said = error::clean(&ended.stderr);
        if ["No space left", "Permission denied", "Read-only file"].iter().any(|word| said.contains(word)) {
            let why = format!(
                "cannot write to the clone in the cache: {}",
                said.lines().next().unwrap_or_default()
            );
            return Error::new(Meaning::Local { why }, "make a commit").with_source(said).into();
        }
        Failure::Broken(said)
    })
}

/// Pushes a commit that stands on `base`, until it is known what became of it.
pub(super) async fn push(
    repository: &Repository,
    directory: &Path,
    base: Option<&str>,
    commit: &str,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let (remote, refspec) = (repository.argument(), format!("{commit}:{}", repository.branch()));
    let mut arguments = vec!["push", "--porcelain", "--no-verify", "--no-follow-tags"];
    if repository.local().is_some() {
        // Acknowledged is durable. Objects are collected by ourselves, not after each push.
        arguments.push(
            "--receive-pack=git -c core.fsync=all -c core.fsyncMethod=batch -c receive.autogc=false receive-pack",
        );
    }
    arguments.extend(["--", &remote, &refspec]);
    let mut backoff = repository.backoff(deadline);
    let mut in_doubt = false;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let ended = around("git.push", repository.git.run(Some(directory), &arguments, &[], deadline)).await;
        let ended = ended.map_err(|unended| repository.unended(unended, "write a record"))?;
        let pushed = error::pushed(ended.is_success(), &ended.text(), &ended.stderr);
        let failed = |class| error::of(class, &repository.location, "write a record", &ended.stderr);
        let final_error = match pushed {
            Pushed::Done => return Ok(Outcome::Landed),
            Pushed::Moved if !in_doubt => {
                tracing::debug!(said = error::clean(&ended.stderr), "the branch moved");
                return Ok(Outcome::Moved);
            }
            Pushed::Failed(Class::Broken) if !in_doubt => {
                return Err(Failure::Broken(error::clean(&ended.stderr)));
            }
            Pushed::Failed(class @ (Class::Unreached | Class::Away | Class::Throttled)) => {
                if attempt < ATTEMPTS && backoff.pause().await {
                    continue;
                }
                failed(class)
            }
            Pushed::Refused(words) => {
                error::refused(&repository.location, &words).with_source(error::clean(&ended.stderr))
            }
            Pushed::Failed(class) => failed(class),
            Pushed::Moved | Pushed::Unknown => {
                in_doubt = true;
                let now = repository.tip(deadline).await;
                let now = now.map_err(|failure| match failure {
                    Failure::Error(error) => unsure(repository).with_source(error),
                    Failure::Broken(said) => unsure(repository).with_source(said),
                })?;
                let now = now.as_ref().map(|tip| tip.commit.as_str());
                if now != base {
                    let landed = match now {
                        Some(now) => is_behind(repository, directory, commit, now, deadline).await?,
                        None => false,
                    };
                    return Ok(if landed { Outcome::Landed } else { Outcome::Moved });
                }
                if attempt < ATTEMPTS && backoff.pause().await {
                    continue;
                }
                failed(Class::Away)
            }
        };
        return Err(if in_doubt { unsure(repository).with_source(final_error) } else { final_error }.into());
    }
}

/// The error of a push that may have been carried out.
fn unsure(repository: &Repository) -> Error {
    Error::new(Meaning::Unavailable, "write a record").with_key(repository.location.url())
}

/// Whether the branch, now at `tip`, has our commit behind it.
async fn is_behind(
    repository: &Repository,
    directory: &Path,
    commit: &str,
    tip: &str,
    deadline: &Deadline,
) -> Result<bool, Failure> {
    let arguments = ["merge-base", "--is-ancestor", commit, tip];
    match repository.git.run(Some(directory), &arguments, &[], deadline).await {
        Ok(ended) if ended.code == Some(0) => Ok(true),
        Ok(ended) if ended.code == Some(1) => Ok(false),
        Ok(ended) => Err(unsure(repository).with_source(error::clean(&ended.stderr)).into()),
        Err(unended) => {
            Err(unsure(repository).with_source(repository.unended(unended, "look for a commit")).into())
        }
    }
}

/// Makes the first commit of the branch, which has no files. False when somebody else made it.
pub(super) async fn begin(repository: &Repository, deadline: &Deadline) -> Result<bool, Failure> {
    let directory = repository.cache.ready(&repository.git, None, deadline).await?;
    let commits = [Commit { message: message::of_beginning(), files: Vec::new() }];
    let made = around("git.commit", build(repository, &directory, None, &commits, deadline)).await?;
    let outcome = push(repository, &directory, None, &made.commit, deadline).await?;
    Ok(matches!(outcome, Outcome::Landed))
}
