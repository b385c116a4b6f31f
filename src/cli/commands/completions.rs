//! `sacker completions`: the completion script of a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::arguments::Arguments;
use crate::cli::failure::Outcome;
use crate::cli::output::Printer;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker completions bash > ~/.local/share/bash-completion/completions/sacker\n  source <(sacker completions zsh)"
)]
pub(in crate::cli) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(in crate::cli) fn run(args: &Args, printer: &Printer) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "sacker", &mut script);
    printer.text(&String::from_utf8_lossy(&script))
}
