//! `sacker remove`: a version becomes a tombstone. Asks first: nothing brings it back.

use crate::cli::confirm::{can_ask_or, confirm};
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::typed;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::Ledger;
use crate::model::{PackageName, Removal, Spec, Version, VersionRecord};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker remove frontend-server 23\n  sacker remove frontend-server 23 --yes --reason 'contains a key'"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The version, as a number
    #[arg(value_name = "VERSION")]
    version: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Why, for the tombstone
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let version = number(args)?;
    if !args.dry_run {
        can_ask_or(args.yes, session, &["remove", &args.package, &args.version])?;
    }
    let ledger = session.ledger().await?.as_ref();
    let printer = session.printer;
    let record = match ledger.resolve(&package, &Spec::Version(version)).await {
        Err(error) if matches!(error.meaning(), Meaning::NotFound(Missing::Removed(..))) => {
            printer.note(format_args!("version {version} of package '{package}' was removed before"));
            return Ok(());
        }
        resolved => resolved?.record,
    };
    if args.dry_run {
        check_tags(ledger, &package, version).await?;
        printer.note(format_args!("would remove {}", shown(&record)));
        return Ok(());
    }
    if !args.yes && !confirm(format!("remove {} for good", shown(&record))).await? {
        printer.note(format_args!("nothing was removed"));
        return Ok(());
    }
    let at = session.connect.clock.now();
    let removal = Removal { at, by: session.actor.clone(), reason: args.reason.clone() };
    let removed = ledger.remove_version(&package, version, &removal).await?;
    if removed.is_new {
        printer.note(format_args!(
            "version {version} of package '{package}' was removed; its number is never used again, and its bytes \
             stay in the store until 'sacker gc' deletes them"
        ));
    } else {
        printer.note(format_args!("version {version} of package '{package}' was removed before"));
    }
    Ok(())
}

/// A number and nothing else: what a tag names may be another version when it is removed.
fn number(args: &Args) -> Result<Version> {
    args.version.parse::<Version>().map_err(|error| {
        let spec = format!("{}@{}", args.package, args.version);
        error.with_hint(format!("see which version that is with: sacker resolve {}", typed(&spec)))
    })
}

fn shown(record: &VersionRecord) -> String {
    format!("version {} of package '{}' ('{}')", record.version, record.package, record.basename)
}

/// Refuses as the removal would, from what is there now.
async fn check_tags(ledger: &dyn Ledger, package: &PackageName, version: Version) -> Result<()> {
    let tags = ledger.tags(package).await?;
    let here: Vec<_> = tags.iter().filter(|state| state.version == Some(version)).collect();
    let Some(first) = here.first() else { return Ok(()) };
    let named = here.iter().map(|state| format!("'{}'", state.tag)).collect::<Vec<_>>().join(", ");
    let meaning = Meaning::Conflict {
        expected: format!("no tag on version {version} of package '{package}'"),
        found: format!("{} {named}", if here.len() == 1 { "tag" } else { "tags" }),
    };
    let hint = format!(
        "move the tag first, or remove it: sacker untag {} {}",
        typed(package.as_str()),
        typed(first.tag.as_str())
    );
    Err(Error::new(meaning, "remove a version").with_hint(hint))
}
