//! `sacker history`: who changed tags, when, how and why, newest last.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::EventItem;
use crate::cli::session::Session;
use crate::error::Error;
use crate::model::verify_chain;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker history frontend-server live\n  sacker history frontend-server -o json"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// Only this tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let ledger = session.ledger().await?;
    let tags = match &args.tag {
        Some(tag) => vec![input::stored_tag(tag)?],
        None => ledger.tags_ever(&package).await?,
    };
    let mut broken = None;
    let mut histories = Vec::new();
    for tag in tags {
        let events = match ledger.history(&package, &tag).await {
            Ok(events) => events,
            Err(error) if error.is_not_found() => return Err(session.no_tag(&package, &tag).await.into()),
            Err(error) => return Err(error.into()),
        };
        if let Err(link) = verify_chain(&events) {
            broken.get_or_insert_with(|| {
                Error::corrupt(format!("history of tag '{tag}' of package '{package}'"), link.to_string())
            });
        }
        histories.push(events.into_iter().map(|event| EventItem::new(&package, &tag, event)).collect());
    }
    let items = in_order(histories);
    if items.is_empty() {
        session.printer.note(format_args!(
            "no tag of package '{package}' was ever moved by a client that keeps a history"
        ));
    }
    session.printer.list(args.output.format, &items)?;
    // What is there was shown; that it cannot be trusted is the news.
    broken.map_or(Ok(()), |error| Err(error.into()))
}

/// The events of all tags by time. Those of one tag keep their order, whatever the clocks of their writers said.
pub(in crate::cli) fn in_order(histories: Vec<Vec<EventItem>>) -> Vec<EventItem> {
    let mut events = Vec::new();
    for history in histories {
        let mut reached = None;
        for event in history {
            reached = reached.max(Some(event.at));
            events.push((reached, event));
        }
    }
    events.sort_by_key(|(reached, _)| *reached);
    events.into_iter().map(|(_, event)| event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Actor, Change, Current, Event, EventSource, Next, PackageName, TagChange, TagName, Version,
        next_event,
    };

    fn history(tag: &str, times: &[&str]) -> Vec<EventItem> {
        let mut events: Vec<Event> = Vec::new();
        for (number, time) in (1..).zip(times) {
            let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
            let to = Version::new(number).expect("positive");
            let current =
                Current { version: events.last().and_then(|event| event.to), last: events.last().cloned() };
            let change = TagChange::new(Change::Move { to, hold: None }, actor);
            match next_event(&current, &change, time.parse().expect("a time")) {
                Ok(Next::Commit(event)) => events.push(*event),
                other => panic!("{other:?}"),
            }
        }
        let (package, tag) = (PackageName::existing("web"), TagName::existing(tag));
        events.into_iter().map(|event| EventItem::new(&package, &tag, event)).collect()
    }

    #[test]
    fn tags_are_merged_by_time_and_keep_their_own_order() {
        // The second writer of `live` had a clock that was an hour behind.
        let merged = in_order(vec![
            history("live", &["2026-11-21T10:00:00Z", "2026-11-21T09:00:00Z", "2026-11-21T12:00:00Z"]),
            history("canary", &["2026-11-21T09:30:00Z", "2026-11-21T11:00:00Z"]),
        ]);
        let order: Vec<_> = merged.iter().map(|event| format!("{} {}", event.tag, event.seq)).collect();
        assert_eq!(order, ["canary 1", "live 1", "live 2", "canary 2", "live 3"]);
    }
}
