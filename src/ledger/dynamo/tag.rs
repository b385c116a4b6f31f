//! Changing a tag: look, decide, commit; and again when somebody else was faster.
//!
//! A change that was carried out before is recognised by its id, in three places that cost nothing as long as nobody
//! repeats anything: the tag's last event, the transaction's token (within 10 minutes), and the newest part of the
//! history before any refusal is reported.

use super::DynamoLedger;
use super::item::{self, TagRow, row_name};
use super::request::Patience;
use super::transaction::{Commit, Seen, Verdict};
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::TagOutcome;
use crate::model::{
    Change, Current, Event, Expected, Next, PackageName, Sha256, TagChange, TagName, TagState, Version,
    adopt_legacy, next_event,
};

/// Events that are read where the last one is asked for: a repeated change is found among them for the same price.
const LOOK_BACK: usize = 25;

/// Events that are searched for a repeated change before a refusal is reported.
const SEARCH: usize = 1000;

/// The longest token that the service takes.
const TOKEN_MAX: usize = 36;

/// What a tag looks like right now.
struct Look {
    row: Option<TagRow>,
    /// The last event, also of a tag whose row is gone.
    last: Option<Event>,
    /// The event of the change itself, if it was carried out before.
    own: Option<Event>,
}

impl Look {
    fn version(&self) -> Option<Version> {
        self.row.as_ref()?.state.version
    }

    fn seen(&self) -> Seen {
        match &self.row {
            None => Seen::Absent,
            Some(row) => match &row.state.event {
                Some(event) => Seen::Event(event.seq),
                None => Seen::Legacy(row.raw_version.clone()),
            },
        }
    }

    /// Whether a 2015 client wrote or deleted the row since the last event.
    fn is_legacy(&self) -> bool {
        match &self.row {
            Some(row) => row.state.event.is_none(),
            None => self.last.as_ref().is_some_and(|event| event.to.is_some()),
        }
    }
}

/// The version that must exist for a change.
fn target(change: &TagChange) -> Option<Version> {
    match change.change {
        Change::Move { to, .. } => Some(to),
        Change::Untag | Change::Hold { .. } | Change::Release | Change::Adopt | Change::Disown => None,
    }
}

/// `id` as a token.
fn token(id: &str) -> String {
    if (1..=TOKEN_MAX).contains(&id.len()) { id.to_owned() } else { digest_token(Sha256::of(id.as_bytes())) }
}

fn digest_token(digest: Sha256) -> String {
    let mut text = digest.to_string();
    text.truncate(TOKEN_MAX);
    text
}

impl DynamoLedger {
    pub(super) async fn commit_change(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        tag.check_stored()?;
        let target = target(change);
        if target.is_some() || !item::can_be_package(package) {
            package.check_new()?;
        }
        if target.is_some() || !item::can_be_tag(tag) {
            tag.check_new()?;
        }
        if !item::can_have_history(package, tag) {
            return Err(Error::invalid(format!("tag '{tag}' is too long for a history")));
        }
        let mut change = change.clone();
        let mut patience = self.patience();
        // A tag without a row most likely never existed. The transaction finds out if it did, so that the usual first
        // move costs no look at the history.
        let mut guess_new = target.is_some() && matches!(change.expected, Expected::Any | Expected::Seq(0));
        let mut token_used = false;
        loop {
            let look = self.look(&patience, package, tag, &change.id, guess_new).await?;
            if let Some(own) = look.own {
                return Ok(outcome(tag, own));
            }
            let now = self.connect.clock.now();
            let version = look.version();
            if look.is_legacy() {
                // A reader saw a tag without events: that is what the expectation speaks of.
                let as_read = Current { version, last: None };
                if let Err(meaning @ Meaning::Conflict { .. }) = next_event(&as_read, &change, now) {
                    return self.refuse(&patience, package, tag, &change, meaning).await;
                }
                if let Some(to) = target {
                    self.check_target(&patience, package, to).await?;
                }
                let adopted = self.adopt(&mut patience, package, tag, &look).await?;
                if let (Some(adopted), Expected::Seq(_)) = (adopted, change.expected) {
                    change.expected = Expected::Seq(adopted.seq);
                }
                continue;
            }
            let seen = look.seen();
            let current = Current { version, last: look.last };
            let event = match next_event(&current, &change, now) {
                Ok(Next::Commit(event)) => *event,
                Ok(Next::Unchanged) => {
                    if let Some(to) = target {
                        self.check_target(&patience, package, to).await?;
                    }
                    let state = TagState { tag: tag.clone(), version, event: current.last };
                    return Ok(TagOutcome { state, event: None, previous: version, archive_pending: false });
                }
                Err(meaning) => return self.refuse(&patience, package, tag, &change, meaning).await,
            };
            let token = if token_used { digest_token(event.digest()) } else { token(&change.id) };
            let commit = Commit { package, tag, target, seen: &seen, event: &event, token: &token };
            match self.commit(&mut patience, &commit).await? {
                Verdict::Committed => return Ok(outcome(tag, event)),
                Verdict::Raced => {
                    if !patience.pause().await {
                        let key = row_name(&self.tags, &item::tag_key(package, tag));
                        return Err(Error::new(Meaning::Throttled, "win the race for the tag").with_key(key));
                    }
                }
                Verdict::TokenUsed if token_used => {
                    return Err(Error::new(Meaning::Other, "change the tag")
                        .with_key(row_name(&self.tags, &item::tag_key(package, tag)))
                        .with_source("the token of a fresh transaction was refused"));
                }
                Verdict::TokenUsed => {
                    let own = self.own_event(&patience, package, tag, &change.id).await;
                    if let Some(own) = own.map_err(|error| error.in_doubt(&change.id))? {
                        return Ok(outcome(tag, own));
                    }
                    token_used = true;
                }
                Verdict::NoTarget | Verdict::RemovedTarget => {
                    if let Some(own) = self.own_event(&patience, package, tag, &change.id).await? {
                        return Ok(outcome(tag, own));
                    }
                    if let Some(to) = target {
                        self.check_target(&patience, package, to).await?;
                    }
                }
            }
            guess_new = false;
        }
    }

    /// Reads the tag, and its history where the row does not tell the last event.
    async fn look(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        id: &str,
        guess_new: bool,
    ) -> Result<Look> {
        let (row, mut events) = if guess_new {
            (self.tag_row(patience, package, tag).await?, Vec::new())
        } else {
            self.row_or_events(patience, package, tag, LOOK_BACK).await?
        };
        match &row {
            None => {}
            Some(TagRow { state: TagState { event: Some(event), .. }, .. }) => events.push(event.clone()),
            Some(_) => events = self.newest_events(patience, package, tag, LOOK_BACK).await?,
        }
        let own = events.iter().find(|event| event.id == id).cloned();
        let last = (!events.is_empty()).then(|| events.swap_remove(0));
        Ok(Look { row, last, own })
    }

    /// Takes a 2015 client's write into the history. Nothing when somebody else changed the tag first.
    async fn adopt(
        &self,
        patience: &mut Patience,
        package: &PackageName,
        tag: &TagName,
        look: &Look,
    ) -> Result<Option<Event>> {
        let id = uuid::Uuid::new_v4().to_string();
        let event = adopt_legacy(look.last.as_ref(), look.version(), self.connect.clock.now(), id);
        let seen = look.seen();
        let commit = Commit { package, tag, target: None, seen: &seen, event: &event, token: &event.id };
        match self.commit(patience, &commit).await {
            Ok(Verdict::Committed) => Ok(Some(event)),
            Ok(_) => {
                patience.pause().await;
                Ok(None)
            }
            // Only the adoption is in doubt; the change that was asked for was not tried.
            Err(error) if error.unsettled().is_some() => {
                let key = error.key().unwrap_or_default().to_owned();
                Err(Error::new(Meaning::Unavailable, "change the tag").with_key(key).with_source(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The event of a change that was carried out before, if it is among the newest of the history.
    async fn own_event(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        id: &str,
    ) -> Result<Option<Event>> {
        let events = self.newest_events(patience, package, tag, SEARCH).await?;
        Ok(events.into_iter().find(|event| event.id == id))
    }

    /// The answer to a change that cannot be: unless it was carried out before, or its version does not even exist.
    async fn refuse(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
        meaning: Meaning,
    ) -> Result<TagOutcome> {
        if let Some(own) = self.own_event(patience, package, tag, &change.id).await? {
            return Ok(outcome(tag, own));
        }
        if let Some(to) = target(change) {
            self.check_target(patience, package, to).await?;
        }
        Err(match meaning {
            // Only a tag that exists can be held or adopted.
            Meaning::Invalid { .. } => Error::not_found(Missing::Tag(package.clone(), tag.clone())),
            meaning => {
                let key = row_name(&self.tags, &item::tag_key(package, tag));
                Error::new(meaning, "change the tag").with_key(key)
            }
        })
    }

    /// A tag moves to versions that exist only. Says which of the two is missing, package or version.
    async fn check_target(&self, patience: &Patience, package: &PackageName, to: Version) -> Result<()> {
        match self.live_version(patience, package, to).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() && !self.has_versions(patience, package).await? => {
                Err(Error::not_found(Missing::Package(package.clone())))
            }
            Err(error) => Err(error),
        }
    }
}

fn outcome(tag: &TagName, event: Event) -> TagOutcome {
    let state = TagState { tag: tag.clone(), version: event.to, event: Some(event.clone()) };
    TagOutcome { state, previous: event.from, event: Some(event), archive_pending: false }
}
