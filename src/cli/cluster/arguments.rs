//! The command line of `kubectl sacker`: kubectl's own options for where to look, ours for how to answer.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::commands;
use crate::cli::arguments::{Voice, parse_timeout};

/// Ask the cluster about packages, versions and tags: what SackerPackages and SackerTags show
#[derive(Debug, Parser)]
#[command(
    name = "kubectl sacker",
    bin_name = "kubectl sacker",
    version,
    before_help = "Example:\n  kubectl sacker list\n  kubectl sacker tags frontend-server -n web\n  kubectl sacker history frontend-server live",
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false,
    max_term_width = 100
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Look into this namespace; by default into that of the context
    #[arg(short, long, value_name = "NAME", global = true, conflicts_with = "all_namespaces")]
    pub(super) namespace: Option<String>,
    /// Look into all namespaces
    #[arg(short = 'A', long, global = true)]
    pub(super) all_namespaces: bool,
    /// The SackerLedger, where packages of several have the same name
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) ledger: Option<String>,
    /// The context of the kubeconfig to use
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) context: Option<String>,
    /// The kubeconfig to use; by default KUBECONFIG, else ~/.kube/config, else that of the pod
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Give up after this time, such as 90s or 2m; 0 is never [default: 30s]
    #[arg(long, value_name = "TIME", global = true, value_parser = parse_limit)]
    pub(super) request_timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) voice: Voice,
}

/// Reads a time; `0`, as kubectl has it, is no limit.
fn parse_limit(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") { Ok(Duration::MAX) } else { parse_timeout(text) }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the packages that objects in the namespace are about
    List(commands::list::Args),
    /// List the versions of a package that the cluster shows, oldest first
    Versions(commands::versions::Args),
    /// List the tags of a package, where they point, and the SackerTags that keep them there
    Tags(commands::tags::Args),
    /// Show what the cluster shows of one version
    Info(commands::info::Args),
    /// Show who moved tags where, when and why, newest last; the last 10 events of each SackerTag
    History(commands::history::Args),
    /// Print the pinned spec of what a spec names
    Resolve(commands::resolve::Args),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let error = Arguments::try_parse_from(line.split(' ')).expect_err("it does not parse");
        error.to_string()
    }

    #[test]
    fn the_tree_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn help_is_for_kubectl() {
        for line in ["list", "versions", "tags", "info", "history", "resolve"] {
            let help = refused(&format!("kubectl-sacker {line} --help"));
            assert!(help.starts_with(&format!("Example:\n  kubectl sacker {line}")), "{help}");
            assert!(help.contains(&format!("Usage: kubectl sacker {line} ")), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        }
    }

    #[test]
    fn one_namespace_or_all() {
        let error = refused("kubectl-sacker list -n web -A");
        assert!(error.contains("cannot be used with"), "{error}");
        let parsed = Arguments::try_parse_from(["kubectl-sacker", "list", "-A", "--request-timeout", "0"]);
        let global = parsed.expect("it parses").global;
        assert!(global.all_namespaces && global.request_timeout == Some(Duration::MAX));
    }
}
