//! Probing conditional objects on keys of its own, which are removed afterwards: the one place that deletes objects.
//!
//! Not responsible for what the findings mean ([`crate::ledger::ProbeReport`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};

use super::{ObjectLedger, PAGE, READS, keys};
use crate::error::{Error, Meaning, Result};
use crate::ledger::probe::{Check, Tally, finding};
use crate::ledger::{ConditionalObjects, Precondition, ProbeOptions, ProbeReport, Put, Revision};

/// Keys of a probe that is older than this, in seconds, belong to one that was interrupted.
const ABANDONED: i64 = 3600;

/// What one write came to, as far as it tells something about the server.
enum Answer {
    Written(Revision),
    Refused,
    /// Neither: the server cannot do it at all.
    Odd(String),
}

impl Answer {
    /// What is wrong with it, where the write had to be refused.
    fn unless_refused(&self) -> Option<String> {
        match self {
            Self::Refused => None,
            Self::Written(_) => Some("it was written".to_owned()),
            Self::Odd(words) => Some(words.clone()),
        }
    }

    fn unless_written(&self) -> Option<String> {
        match self {
            Self::Written(_) => None,
            Self::Refused => Some("it was refused".to_owned()),
            Self::Odd(words) => Some(words.clone()),
        }
    }

    fn revision(self) -> Revision {
        match self {
            Self::Written(revision) => revision,
            // No server knows this one; the checks on it fail, as they should.
            Self::Refused | Self::Odd(_) => Revision("\"none\"".to_owned()),
        }
    }
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// # Errors
    /// What says nothing about the server's promises: `Denied`, `Unavailable`, `Throttled`, `NotFound(Backend)`.
    pub(super) async fn run_probe(&self, options: &ProbeOptions) -> Result<ProbeReport> {
        // The server's time: the keys of others are swept by their age.
        let server = self.objects.server_time().map(|server| server.time);
        let now = server.unwrap_or_else(|| self.connect.clock.now()).as_second();
        let base = format!("{}{now}-{}/", keys::PROBE, uuid::Uuid::new_v4().simple());
        let outcome = self.probe_below(&base, options).await;
        if let Err(error) = self.sweep(&base, now).await {
            tracing::debug!(%error, "keys of a probe were not removed");
        }
        outcome
    }

    async fn probe_below(&self, base: &str, options: &ProbeOptions) -> Result<ProbeReport> {
        // What is cut short while the server is busy or away says nothing; it is done again on another key.
        let mut backoff = self.backoff();
        let mut keys = (0_u64..).map(|number| format!("{base}{number}"));
        let mut key = || keys.next().unwrap_or_default();
        let mut checks = loop {
            match self.steps(&key()).await {
                Err(error) if error.is_transient() && backoff.pause().await => {}
                outcome => break outcome?,
            }
        };
        let (mut creates, mut exchanges) = (Tally::default(), Tally::default());
        for _ in 0..options.rounds {
            let mut backoff = self.backoff();
            let (created, exchanged) = loop {
                match self.race(&key(), options.racers).await {
                    Err(error) if error.is_transient() && backoff.pause().await => {}
                    outcome => break outcome?,
                }
            };
            match created {
                Ok(winners) => creates.round(winners, options.racers),
                Err(wrong) => creates.note(Some(wrong)),
            }
            exchanges.round(exchanged, options.racers);
        }
        checks.push(Check::new("parallel creates of one key", creates.broken()));
        checks.push(Check::new("parallel exchanges of one key", exchanges.broken()));
        Ok(ProbeReport { checks })
    }

    async fn write(&self, key: &str, text: &str, precondition: Precondition) -> Result<Answer> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        match self.objects.put(key, bytes, precondition, &BTreeMap::new()).await {
            Ok(Put::Written(revision)) => Ok(Answer::Written(revision)),
            Ok(Put::Refused) => Ok(Answer::Refused),
            Err(error) => finding(error).map(Answer::Odd),
        }
    }

    /// What is wrong when the object is not `expected`.
    async fn unless_reads(&self, key: &str, expected: Option<&str>) -> Result<Option<String>> {
        let found = match self.objects.get(key).await {
            Ok(object) => object.map(|object| object.bytes),
            Err(error) => return finding(error).map(Some),
        };
        let holds = found.as_deref() == expected.map(str::as_bytes);
        Ok((!holds).then(|| "the object is not what was written last".to_owned()))
    }

    /// One write after the other.
    async fn steps(&self, key: &str) -> Result<Vec<Check>> {
        let mut checks = Vec::new();
        let mut check = |what, broken| checks.push(Check::new(what, broken));

        let created = self.write(key, "first", Precondition::Absent).await?;
        check("create a new key", created.unless_written());
        let first = created.revision();
        let again = self.write(key, "second", Precondition::Absent).await?;
        let kept = self.unless_reads(key, Some("first")).await?;
        check("create an existing key is refused", again.unless_refused().or(kept));

        let exchanged = self.write(key, "third", Precondition::Revision(first.clone())).await?;
        let kept = self.unless_reads(key, Some("third")).await?;
        check("exchange on the right revision", exchanged.unless_written().or(kept));
        let stale = self.write(key, "fourth", Precondition::Revision(first.clone())).await?;
        let kept = self.unless_reads(key, Some("third")).await?;
        check("exchange on an old revision is refused", stale.unless_refused().or(kept));

        let absent = format!("{key}-absent");
        let answer = self.write(&absent, "fifth", Precondition::Revision(first)).await?;
        let kept = self.unless_reads(&absent, None).await?;
        check("exchange of an absent key is refused", answer.unless_refused().or(kept));

        let parts = self.objects.create_in_parts(key, Bytes::from_static(b"sixth")).await;
        let broken = match parts {
            Ok(None) => return Ok(checks),
            Ok(Some(Put::Refused)) => self.unless_reads(key, Some("third")).await?,
            Ok(Some(Put::Written(_))) => Some("it was written".to_owned()),
            Err(error) => Some(finding(error)?),
        };
        let what = "create an existing key in parts is refused";
        checks.push(Check { what, broken, decides: false });
        Ok(checks)
    }

    /// A race to create a key, then one to exchange it: how many won each. Where the creates are wrong in another way, that
    /// in words.
    async fn race(&self, key: &str, racers: u32) -> Result<(Result<usize, String>, usize)> {
        let texts: Vec<String> = (0..racers).map(|racer| format!("racer {racer}")).collect();
        let creates = join_all(texts.iter().map(|text| self.write(key, text, Precondition::Absent))).await;
        let mut winner = None;
        let mut created = 0;
        for (text, answer) in texts.iter().zip(creates) {
            if let Answer::Written(revision) = answer? {
                created += 1;
                winner = Some((text, revision));
            }
        }
        let Some((text, revision)) = winner else { return Ok((Ok(0), 0)) };
        let overwritten = match created {
            1 => self.unless_reads(key, Some(text)).await?,
            _ => None,
        };
        // Other bytes than any before: a revision may be a digest, and must not come back within the race.
        let texts: Vec<String> = (0..racers).map(|racer| format!("exchanger {racer}")).collect();
        let revision = || Precondition::Revision(revision.clone());
        let exchanges = join_all(texts.iter().map(|text| self.write(key, text, revision()))).await;
        let mut exchanged = 0;
        for answer in exchanges {
            exchanged += usize::from(matches!(answer?, Answer::Written(_)));
        }
        Ok((overwritten.map_or(Ok(created), Err), exchanged))
    }

    /// Removes the keys of this probe, and of earlier ones that were interrupted.
    async fn sweep(&self, base: &str, now: i64) -> Result<()> {
        let is_over = |key: &str| {
            let begun =
                key.strip_prefix(keys::PROBE).and_then(|rest| rest.split_once('-')?.0.parse::<i64>().ok());
            key.starts_with(base) || begun.is_none_or(|begun| begun < now - ABANDONED)
        };
        let mut start = keys::PROBE.to_owned();
        loop {
            let page = self.objects.list(keys::PROBE, &start, PAGE).await?;
            let is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                start.clone_from(&last.key);
            }
            let over: Vec<String> =
                page.into_iter().map(|entry| entry.key).filter(|key| is_over(key)).collect();
            for some in over.chunks(READS) {
                try_join_all(some.iter().map(|key| self.objects.delete_probe(key))).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Refuses to delete anything but keys of a probe.
pub(in crate::ledger) fn check_is_probe(key: &str) -> Result<()> {
    if key.starts_with(keys::PROBE) {
        return Ok(());
    }
    Err(Error::new(Meaning::Other, "delete a key of a probe").with_key(key))
}
