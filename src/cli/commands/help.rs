//! `sacker help`: a command's help, or a topic that no single command has.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use crate::cli::arguments::Arguments;
use crate::cli::failure::Outcome;
use crate::cli::output::Printer;
use crate::cli::reference;
use crate::cli::suggest::closest;
use crate::error::Error;
use crate::exit::EXIT_CODES;

#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  sacker help exit-codes\n  sacker help config\n  sacker help add")]
pub(in crate::cli) struct Args {
    /// A command, or 'exit-codes', 'config', 'output' or 'reference' (all commands, as Markdown)
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
}

const TOPICS: [&str; 4] = ["exit-codes", "config", "output", "reference"];

const CONFIG: &str = "\
Example:
  export SACKER_LEDGER=dynamo://us-east-1/sacker SACKER_STORE=s3://bucket
  echo '{\"ledger\": \"s3://bucket/ledger\", \"store\": \"s3://bucket/blobs\"}' > ~/.sacker.json

Where the ledger and the store are. The first that says so counts, for each of the two:
  1. the flags --ledger and --store
  2. the variables SACKER_LEDGER and SACKER_STORE
  3. one file: the one named by SACKER_CONFIG, else $XDG_CONFIG_HOME/sacker/config.json or config.yaml
     (XDG_CONFIG_HOME is ~/.config by default), else ~/.sacker.json
With neither of the two set anywhere they are directories below $XDG_DATA_HOME/sacker (~/.local/share/sacker).
A file has the keys 'ledger' and 'store' and no others. A file in the current directory is never read.
A store may be several, all with the same blobs: a list in the file, --store more than once, or URIs separated by
blanks in SACKER_STORE. Writes go to all of them in that order, reads to the first that has the blob.

Ledgers:
  dynamo://<region>/<table prefix>    two DynamoDB tables
  s3://<bucket>[/<prefix>]            objects in a bucket
  file:///<directory>                 files
Stores:
  s3://<bucket>[/<prefix>]
  file:///<directory>
  hdfs://<namenode>[:port]/<directory>    also a name service that the Hadoop configuration explains
Parameters: ?endpoint=URL for servers other than AWS; with s3:// also region, path_style; for ledgers single_writer and
versions. For stores, the same for everybody who writes to one:
  create_only=true   blobs are only ever created (If-None-Match), as a policy of the bucket may demand
  grace=24h          how long 'sacker gc' leaves an unreferenced blob alone after it was last written
Credentials never stand in a URI: the standard AWS_* variables, profiles and roles are used, and for HDFS
HADOOP_USER_NAME or a Kerberos ticket; HADOOP_CONF_DIR names the Hadoop configuration.

Further variables:
  SACKER_USER    the name for the history; by default who started the CI job, else <user>@<host>
  SACKER_LOG     what to log to standard error, such as sacker=debug
  NO_COLOR, CLICOLOR_FORCE    no colour, colour also when piped
";

const OUTPUT: &str = "\
Example:
  sacker tags frontend-server -o json

Standard output is the answer and nothing else; notes, progress and errors go to standard error, and -q silences the
first two. On a terminal the answer is a table; piped, it is one line per item, columns separated by tabs, '-' for none:
  list        package
  versions    version
  tags        tag, version
  history     tag, seq, at, kind, from, to, by, source, reason
  info        key, value
  add         version
  download    path
  diff        field, from, to
  config show setting, value, and with --origin where it comes from
  init        what was done
  prune       package, version, fate
  gc          blob, size, written, verdict, outcome, why
  doctor      verdict, check, what was found
-o json and -o yaml give documents whose keys are always there, null where nothing is known.
-o name gives only what other commands take: package, version or tag; for 'info' the pinned spec.
";

pub(in crate::cli) fn run(args: &Args, printer: &Printer) -> Outcome {
    let mut command = Arguments::command();
    command.build();
    let Some(topic) = args.topic.as_deref() else {
        return printer.text(&format!(
            "{}\nTopics: {}\n",
            command.render_help(),
            TOPICS.map(|topic| format!("sacker help {topic}")).join(", ")
        ));
    };
    match topic {
        "exit-codes" => printer.text(&exit_codes()),
        "config" => printer.text(CONFIG),
        "output" => printer.text(OUTPUT),
        "reference" => printer.text(&reference::markdown()),
        _ => match command.find_subcommand_mut(topic) {
            Some(command) => printer.text(&command.render_help().to_string()),
            None => Err(unknown(topic, &command).into()),
        },
    }
}

fn unknown(topic: &str, command: &clap::Command) -> Error {
    let known = command.get_subcommands().map(clap::Command::get_name).chain(TOPICS);
    not_among(format!("no command or topic '{topic}'"), topic, known)
}

/// The error for a word that is none of those that are known.
pub(super) fn not_among<'a>(message: String, word: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::invalid(message);
    match closest(word, known) {
        Some(close) => error.with_hint(format!("did you mean '{close}'?")),
        None => error.with_hint("see what there is with: sacker help"),
    }
}

fn exit_codes() -> String {
    let mut text = "Example:\n  sacker info frontend-server live || echo \"exit code $?\"\n\n".to_owned();
    for (exit, meaning) in EXIT_CODES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>5}  {meaning}", exit.code());
    }
    text
}
