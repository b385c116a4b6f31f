//! The reference of all commands as Markdown, made from the tree of commands: `docs/cli.md` holds it, and a test compares.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::arguments::Arguments;

/// The width of a page, whatever the terminal's is.
const WIDTH: usize = 100;

/// The heading of the options that all commands take, in clap's help.
const GLOBAL: &str = "Global options:";

/// A section per command, in the order of the help; what all commands take comes first and once.
pub(super) fn markdown() -> String {
    let mut root = Arguments::command().term_width(WIDTH);
    root.build();
    let help = root.render_help().to_string();
    let global = help.split_once(GLOBAL).map_or("", |(_, options)| options);
    let mut text = format!("### Global options\n\n```\n{}\n```\n", global.trim_matches('\n'));
    for command in root.get_subcommands_mut() {
        section(command, "sacker", &mut text);
    }
    text
}

fn section(command: &mut clap::Command, parent: &str, text: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let help = command.clone().term_width(WIDTH).render_help().to_string();
    let own = help.split_once(GLOBAL).map_or(help.as_str(), |(own, _)| own);
    // Writing to a String cannot fail.
    let _ = write!(text, "\n### {name}\n\n```\n{}\n```\n", own.trim_end());
    for inner in command.get_subcommands_mut() {
        // Clap's own `help` below a command with commands.
        if inner.get_name() != "help" {
            section(inner, &name, text);
        }
    }
}
