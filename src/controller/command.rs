//! The command line of `sacker-operator`: settings from flags and environment, resolved once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::{Client, Config};

use super::context::Name;
use super::lease::Timing;
use super::operator::{self, Election, Settings};
use super::{crd_files, duration, shutdown};
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::exit::Exit;
use crate::telemetry;

/// How long the Kubernetes API may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than a watch a connection to it may be silent: a watch finds out by itself, 5 s after its time.
const SILENCE_MARGIN: Duration = Duration::from_secs(10);

/// Threads that run tasks, at most: it waits more than it computes, and each thread keeps memory of its own.
const WORKERS: usize = 4;

/// The operator: keeps tags where SackerTags say, and shows packages in the cluster.
#[derive(Debug, Parser)]
#[command(
    name = "sacker-operator",
    version,
    before_help = "Example: sacker-operator run --cluster-name prod-eu --controllers tag,resolver,ledger",
    after_help = "Every flag of `run` can be given as an environment variable, as shown with it. The logs' filter is \
                  SACKER_LOG. AWS credentials come from the standard AWS settings."
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the controllers until SIGTERM
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions
    #[command(before_help = "Example: sacker-operator crds | kubectl apply -f -")]
    Crds(Crds),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Controller {
    Tag,
    Resolver,
    Ledger,
    Rollout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(before_help = "Example: sacker-operator run --cluster-name prod-eu --http-address 0.0.0.0:8080")]
struct Run {
    /// Which controllers run; `resolver,ledger` needs no right to write the ledger, `rollout` writes pod templates
    #[arg(long, env = "SACKER_CONTROLLERS", value_delimiter = ',', default_value = "tag,resolver,ledger")]
    controllers: Vec<Controller>,

    /// Look after the objects of this namespace only [default: of all namespaces]
    #[arg(long, env = "SACKER_WATCH_NAMESPACE", value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    watch_namespace: Option<String>,

    /// The cluster's name in the owner of a tag [default: the uid of the namespace kube-system]
    #[arg(long, env = "SACKER_CLUSTER_NAME", value_parser = cluster_name)]
    cluster_name: Option<String>,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "SACKER_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    http_address: SocketAddr,

    /// Believe the annotation sacker.dev/requested-by; only where a policy stamps it
    #[arg(long, env = "SACKER_TRUST_REQUESTED_BY")]
    trust_requested_by: bool,

    /// How often ledgers are polled that do not say [default: 30s, and 2m on s3]
    #[arg(long, env = "SACKER_POLL_INTERVAL", value_parser = whole_duration)]
    poll_interval: Option<Duration>,

    /// The longest that one operation on a ledger may take, with its retries
    #[arg(long, env = "SACKER_LEDGER_DEADLINE", value_parser = whole_duration, default_value = "10s")]
    ledger_deadline: Duration,

    /// How long a watch may hear nothing before it is taken up anew
    #[arg(long, env = "SACKER_WATCH_TIMEOUT", value_parser = whole_duration, default_value = "60s")]
    watch_timeout: Duration,

    /// Take a lease first, so that of several replicas one acts
    #[arg(
        long,
        env = "SACKER_LEADER_ELECT",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    leader_elect: bool,

    /// The namespace of the lease [default: the pod's own, else the kubeconfig's]
    #[arg(long, env = "SACKER_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// The name of the lease
    #[arg(long, env = "SACKER_LEASE_NAME", default_value = "sacker-operator")]
    lease_name: String,

    /// How long the lease lasts: how long a crash of the leader keeps the others waiting
    #[arg(long, env = "SACKER_LEASE_DURATION", value_parser = whole_duration, default_value = "15s")]
    lease_duration: Duration,

    /// Who takes the lease; the same after a restart [default: the host name]
    #[arg(long, env = "SACKER_IDENTITY")]
    identity: Option<String>,

    /// The form of the logs
    #[arg(long, env = "SACKER_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct Crds {
    /// Write one file per kind into this directory instead
    #[arg(long)]
    directory: Option<PathBuf>,
}

fn cluster_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 128 || !text.bytes().all(allowed) {
        return Err("a cluster's name has 1 to 128 letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(text.to_owned())
}

fn whole_duration(text: &str) -> Result<Duration, String> {
    let found = duration::parse(text).filter(|duration| !duration.is_zero());
    found.ok_or_else(|| "a duration is like '30s', '1m30s' or '500ms'".to_owned())
}

/// Runs the process. Returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            // Help and version are answers too.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit;
        }
    };
    let outcome = match command.verb {
        Verb::Run(run) => run_operator(*run),
        Verb::Crds(crds) => print_crds(crds.directory.as_deref()),
    };
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "error: {error}");
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            Exit::from(&error)
        }
    }
}

fn print_crds(directory: Option<&Path>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for (name, content) in crd_files()? {
        match directory {
            Some(directory) => {
                let path = directory.join(name);
                std::fs::write(&path, content).map_err(|error| Error::local("write", &path, error))?;
            }
            // A reader that has seen enough is no error.
            None => drop(write!(stdout, "---\n{content}")),
        }
    }
    Ok(())
}

fn run_operator(run: Run) -> Result<()> {
    let environment = Environment::of_process();
    let format = match run.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    let filter = environment.get(telemetry::FILTER_VARIABLE).unwrap_or("warn,sacker=info");
    telemetry::install(format, filter)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKERS))
        .enable_all()
        .build()
        .map_err(|error| Error::new(Meaning::Other, "start the runtime").with_source(error))?;
    let outcome = runtime.block_on(async {
        let stop = shutdown::on_signal()
            .map_err(|error| Error::new(Meaning::Other, "listen for signals").with_source(error))?;
        let config = client_config(run.watch_timeout).await?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        operator::run(client, settings(run, environment, namespace), stop).await
    });
    // A pass that hangs in a blocking call must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn client_config(watch_timeout: Duration) -> Result<Config> {
    let mut config = Config::infer().await.map_err(|error| unusable(&error))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A watch that is open has a limit of its own. A list, a write, or a watch that is not answered at all would be waited
    // for without end on a connection whose other end is gone without a word.
    config.read_timeout = Some(watch_timeout + SILENCE_MARGIN);
    // Else the time that a connection was not used would count, too.
    config.reset_reader_on_write = true;
    Ok(config)
}

fn unusable(error: &(dyn std::error::Error + 'static)) -> Error {
    let rule = format!("the Kubernetes configuration cannot be used: {error}");
    Error::invalid(rule).with_hint("set KUBECONFIG, or run in a pod with a service account")
}

fn settings(run: Run, environment: Environment, namespace: String) -> Settings {
    let controller = |controller: &Controller| match controller {
        Controller::Tag => Name::Tag,
        Controller::Resolver => Name::Resolver,
        Controller::Ledger => Name::Ledger,
        Controller::Rollout => Name::Rollout,
    };
    let identity = run.identity.unwrap_or_else(host_name);
    Settings {
        controllers: run.controllers.iter().map(controller).collect::<BTreeSet<_>>(),
        namespace: run.watch_namespace,
        cluster_name: run.cluster_name,
        http_address: run.http_address,
        trust_requested_by: run.trust_requested_by,
        poll_interval: run.poll_interval,
        watch_timeout: run.watch_timeout,
        election: run.leader_elect.then(|| Election {
            namespace: run.lease_namespace.unwrap_or(namespace),
            name: run.lease_name,
            identity,
            timing: Timing::from_duration(run.lease_duration),
        }),
        connect: Connect {
            deadline: run.ledger_deadline,
            instance_metadata: false,
            environment,
            ..Connect::default()
        },
    }
}

/// In a pod, the pod's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }

    #[test]
    fn help_begins_with_an_example() {
        for words in [&["sacker-operator", "--help"][..], &["sacker-operator", "run", "--help"]] {
            let help = Command::try_parse_from(words).expect_err("help").to_string();
            assert!(help.starts_with("Example: sacker-operator"), "{help}");
        }
    }

    #[test]
    fn flags_become_settings() {
        let words = "sacker-operator run --controllers resolver,ledger --leader-elect=false --ledger-deadline 1m30s \
                     --watch-namespace web";
        let Verb::Run(run) = Command::try_parse_from(words.split(' ')).expect("valid").verb else {
            panic!("another verb");
        };
        let settings = settings(*run, Environment::default(), "default".into());
        assert_eq!(settings.controllers, BTreeSet::from([Name::Resolver, Name::Ledger]));
        assert_eq!(settings.namespace.as_deref(), Some("web"));
        assert!(settings.election.is_none());
        assert_eq!(settings.connect.deadline, Duration::from_secs(90));
        for broken in
            ["--cluster-name a/b", "--lease-duration 0s", "--controllers webhook", "--http-address x"]
        {
            let words = format!("sacker-operator run {broken}");
            Command::try_parse_from(words.split(' ')).expect_err(broken);
        }
    }
}
