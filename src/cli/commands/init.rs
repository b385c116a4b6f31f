//! `sacker init`: creates what the ledger and the store need, and prints a line per thing done.

use clap::ValueEnum;

use crate::cli::failure::Outcome;
use crate::cli::policy;
use crate::cli::session::Session;
use crate::ledger::InitOptions;
use crate::model::Numbering;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(
    before_help = "Example:\n  sacker init\n  sacker --ledger s3://bucket/ledger --store s3://bucket/blobs init --versions sequence\n  sacker init --print-ci-policy --package 'frontend/*'"
)]
pub(in crate::cli) struct Args {
    /// How to number versions, chosen once: 1, 2, 3, ... or milliseconds, which writers that cannot read can allocate
    #[arg(long, value_name = "HOW")]
    versions: Option<Versions>,
    /// Do not switch on continuous backups of tables
    #[arg(long)]
    no_point_in_time_recovery: bool,
    /// Do not protect tables against deletion
    #[arg(long)]
    no_deletion_protection: bool,
    /// Do not check the conditional writes of an S3 server other than AWS
    #[arg(long)]
    no_probe: bool,
    /// Print the IAM policy of a client that only adds versions, such as a CI job, and do nothing else
    #[arg(long)]
    print_ci_policy: bool,
    /// With --print-ci-policy: only this package, as often as given; '*' is any text, '/' included
    #[arg(long = "package", value_name = "NAME", requires = "print_ci_policy")]
    packages: Vec<String>,
    /// With --print-ci-policy: what is there cannot be overwritten; for servers that know s3:if-none-match, as AWS does
    #[arg(long, requires = "print_ci_policy")]
    strict: bool,
    /// Bring what exists to these settings too
    #[arg(long)]
    upgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Versions {
    Sequence,
    Timestamp,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    if args.print_ci_policy {
        return print_ci_policy(args, session);
    }
    let options = InitOptions {
        numbering: args.versions.map(|versions| match versions {
            Versions::Sequence => Numbering::Sequence,
            Versions::Timestamp => Numbering::Timestamp,
        }),
        point_in_time_recovery: !args.no_point_in_time_recovery,
        deletion_protection: !args.no_deletion_protection,
        upgrade: args.upgrade,
        probe: !args.no_probe,
    };
    let printer = session.printer;
    let mut nothing_done = true;
    let mut answer = |place: &str, lines: Vec<String>| {
        nothing_done &= lines.is_empty();
        lines.iter().try_for_each(|line| printer.line(&format!("{place}: {line}")))
    };
    // With only one of the two configured, that one is set up; with none, the error says so.
    let (ledger, store) = (session.configuration.ledger(), session.configuration.store());
    if ledger.is_ok() || store.is_err() {
        ledger?;
        let lines = session.ledger().await?.init(&options).await?;
        answer("ledger", lines)?;
    }
    if session.configuration.store().is_ok() {
        let lines = session.store().await?.init().await?;
        answer("store", lines)?;
    } else {
        printer.note(format_args!("no store is configured; only the ledger was set up"));
    }
    if nothing_done {
        printer.note(format_args!("nothing to do: everything is there"));
    }
    Ok(())
}

/// Makes no request.
fn print_ci_policy(args: &Args, session: &Session<'_>) -> Outcome {
    let (ledger, store) = (session.configuration.ledger(), session.configuration.store());
    let environment = &session.connect.environment;
    let document = policy::document(&policy::Request {
        ledger: ledger.as_ref().ok().map(|ledger| &ledger.value),
        stores: store.as_ref().map_or(&[], |store| &store.value),
        packages: &args.packages,
        strict: args.strict,
        region: environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION")),
    })?;
    session.printer.text(&format!("{document:#}\n"))
}
