//! The ledger's own record: how it numbers versions, and whether its server's conditional writes were found to hold.
//!
//! Written by `init` and read once by every client, so that a refusal to write costs no request of its own.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;

use super::records::{self, LedgerBody};
use super::{FIRST_TIMESTAMP, ObjectLedger, keys};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::ledger::{
    ConditionalObjects, InitOptions, LedgerState, Object, Precondition, ProbeOptions, Put, Verdict,
};
use crate::model::{LedgerUri, Numbering, S3Location};

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The record. Read once: a ledger never changes its numbering, and a verdict that changes counts for new clients.
    async fn own(&self) -> Result<&LedgerBody> {
        let read = || async {
            match self.objects.get(keys::LEDGER).await {
                Ok(Some(object)) => self.decode(&object),
                Ok(None) => Ok(LedgerBody::numbered(self.objects.default_numbering())),
                // Guessing would put timestamps into a sequence, for good.
                Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => match &self.uri {
                    LedgerUri::S3(S3Location { versions: Some(versions), .. }) => {
                        Ok(LedgerBody::numbered(*versions))
                    }
                    _ => Err(error.with_hint(
                        "let it be read (s3:GetObject, and s3:ListBucket), or say ?versions=timestamp",
                    )),
                },
                Err(error) => Err(error),
            }
        };
        self.own.get_or_try_init(read).await
    }

    fn decode(&self, object: &Object) -> Result<LedgerBody> {
        self.placed(keys::LEDGER, records::decode_ledger(keys::LEDGER, &object.bytes))
    }

    /// How this ledger numbers versions.
    pub(super) async fn known_numbering(&self) -> Result<Numbering> {
        self.own().await.map(|own| own.versions)
    }

    /// Refuses to write where a probe found the server's conditional writes broken, as far as this client may know.
    ///
    /// # Errors
    /// `Invalid` then; what the reading of the record gives, save that it is denied.
    pub(super) async fn check_writable(&self) -> Result<()> {
        if !self.objects.wants_probe() || self.is_single_writer() {
            return Ok(());
        }
        match self.own().await {
            Ok(own) => own.probe.as_ref().map_or(Ok(()), |verdict| verdict.check(&self.uri.to_string())),
            Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// `NotFound(Backend)` when the place itself is missing; `Denied` when the record may not be read.
    pub(super) async fn own_state(&self) -> Result<LedgerState> {
        let object = self.objects.get(keys::LEDGER).await?;
        let is_set_up = object.is_some();
        let body = match object {
            Some(object) => self.decode(&object)?,
            None => LedgerBody::numbered(self.objects.default_numbering()),
        };
        let numbering = body.versions;
        Ok(LedgerState {
            is_set_up,
            numbering,
            verdict: body.probe,
            is_single_writer: self.is_single_writer(),
        })
    }

    fn is_single_writer(&self) -> bool {
        matches!(self.uri, LedgerUri::S3(S3Location { single_writer: true, .. }))
    }

    /// Writes the record, unless one is there that says as much. Probes first where that is asked for and sensible.
    pub(super) async fn set_up(&self, options: &InitOptions) -> Result<Vec<String>> {
        let mut done = self.objects.init(options).await?;
        let verdict = if options.probe && self.objects.wants_probe() {
            let report = self.run_probe(&ProbeOptions::default()).await?;
            Some(Verdict::of(&report, self.connect.clock.now()))
        } else {
            None
        };
        let wanted = options.numbering.unwrap_or_else(|| self.objects.default_numbering());
        let is_there = self.objects.get(keys::LEDGER).await?.is_some();
        if wanted == Numbering::Sequence && !is_there {
            self.check_no_timestamps().await?;
        }
        let body = LedgerBody { versions: wanted, probe: verdict.clone() };
        // Looked at before: a server that ignores the condition would overwrite the numbering.
        let put = if is_there { Put::Refused } else { self.put_own(&body, Precondition::Absent).await? };
        match put {
            Put::Written(_) => done.push(format!("versions are numbered by {}", wanted.as_str())),
            Put::Refused => {
                let found = self.keep_verdict(verdict.as_ref()).await?;
                self.check_numbering(found, options.numbering)?;
            }
        }
        if let Some(verdict) = verdict {
            if !self.is_single_writer() {
                verdict.check(&self.uri.to_string())?;
            } else if let Some(why) = &verdict.why {
                done.push(format!("this server allows a single writer only: {why}"));
            }
        }
        Ok(done)
    }

    async fn put_own(&self, body: &LedgerBody, precondition: Precondition) -> Result<Put> {
        let nothing = BTreeMap::new();
        let put = self.objects.put(keys::LEDGER, records::encode_ledger(body), precondition, &nothing);
        around("ledger.settings", put).await
    }

    /// Puts the verdict into the record that is there, if it changes anything. Returns how that numbers versions.
    async fn keep_verdict(&self, verdict: Option<&Verdict>) -> Result<Option<Numbering>> {
        let mut backoff = self.backoff();
        loop {
            let Some(object) = self.objects.get(keys::LEDGER).await? else { return Ok(None) };
            let mut body = self.decode(&object)?;
            let versions = Some(body.versions);
            let Some(verdict) = verdict else { return Ok(versions) };
            if body.probe.as_ref().is_none_or(|kept| kept.holds) == verdict.holds {
                return Ok(versions);
            }
            body.probe = Some(verdict.clone());
            // A server that failed may refuse even this; then the pause ends it.
            match self.put_own(&body, Precondition::Revision(object.revision)).await? {
                Put::Refused if backoff.pause().await => {}
                Put::Written(_) | Put::Refused => return Ok(versions),
            }
        }
    }

    fn check_numbering(&self, found: Option<Numbering>, asked: Option<Numbering>) -> Result<()> {
        match (found, asked) {
            (Some(found), Some(asked)) if found != asked => {
                let meaning = Meaning::Conflict {
                    expected: format!("versions numbered by {}", asked.as_str()),
                    found: format!("versions numbered by {}", found.as_str()),
                };
                Err(Error::new(meaning, "set up the ledger").with_key(self.uri.to_string()).with_hint(
                    "the numbering of a ledger is chosen once; use another prefix for another numbering",
                ))
            }
            _ => Ok(()),
        }
    }

    /// A place that 2015 clients used already cannot become a sequence: their numbers are far above any sequence.
    async fn check_no_timestamps(&self) -> Result<()> {
        let Some(package) = self.walk_packages(false).try_next().await? else { return Ok(()) };
        match self.highest_listed(&package).await? {
            Some(version) if version.get() >= FIRST_TIMESTAMP => {
                let meaning = Meaning::Conflict {
                    expected: "no package yet, or versions numbered by sequence".to_owned(),
                    found: format!("version {version} of package '{package}'"),
                };
                Err(Error::new(meaning, "set up the ledger")
                    .with_key(self.uri.to_string())
                    .with_hint("keep versions=timestamp here, or use another prefix for a sequence"))
            }
            _ => Ok(()),
        }
    }
}
