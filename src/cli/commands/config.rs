//! `sacker config`: the settings that count here, and where each of them comes from. Makes no request.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::items::or_nothing;
use crate::cli::output::Item;
use crate::cli::session::Session;
use crate::config::Setting;
use crate::error::Result;

#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    before_help = "Example:\n  sacker config show --origin\n  sacker config show -o json"
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the settings that a command here would use
    Show(Show),
}

#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  sacker config show\n  sacker --ledger s3://bucket config show --origin")]
struct Show {
    /// Say where each setting comes from: a flag, a variable, a file, or the default
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let What::Show(show) = &args.what;
    let settings = settings(session);
    let document: BTreeMap<&str, &Shown> =
        settings.iter().map(|setting| (setting.setting, &setting.shown)).collect();
    if show.origin {
        let rows: Vec<_> = settings.iter().map(WithOrigin).collect();
        session.printer.rows_or(show.output.format, &document, &rows)
    } else {
        session.printer.rows_or(show.output.format, &document, &settings)
    }
}

fn settings(session: &Session<'_>) -> Vec<Row> {
    let configuration = &session.configuration;
    vec![
        Row { setting: "ledger", shown: Shown::of(configuration.ledger()) },
        Row { setting: "store", shown: Shown::of(configuration.store()) },
        Row {
            setting: "user",
            shown: Shown {
                value: Some(session.actor.clone()),
                origin: Some(session.actor_origin.to_string()),
            },
        },
    ]
}

/// The documented shape of a setting in `-o json`; null where nothing is configured.
#[derive(Debug, Serialize)]
struct Shown {
    value: Option<String>,
    origin: Option<String>,
}

impl Shown {
    fn of<T: ToString>(setting: Result<&Setting<T>>) -> Self {
        let setting = setting.ok();
        Self {
            value: setting.map(|setting| setting.value.to_string()),
            origin: setting.map(|setting| setting.origin.to_string()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    setting: &'static str,
    #[serde(flatten)]
    shown: Shown,
}

impl Item for Row {
    const HEADERS: &'static [&'static str] = &["SETTING", "VALUE"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.setting.to_owned(), or_nothing(self.shown.value.as_ref())]
    }

    fn name(&self) -> String {
        or_nothing(self.shown.value.as_ref())
    }
}

/// A setting, and the column of where it comes from.
#[derive(Debug, Serialize)]
struct WithOrigin<'a>(&'a Row);

impl Item for WithOrigin<'_> {
    const HEADERS: &'static [&'static str] = &["SETTING", "VALUE", "ORIGIN"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        let mut columns = self.0.plain();
        columns.push(or_nothing(self.0.shown.origin.as_ref()));
        columns
    }

    fn name(&self) -> String {
        self.0.name()
    }
}
