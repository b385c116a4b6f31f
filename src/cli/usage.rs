//! A command line that does not parse: what is wrong with it and what was meant, in the form of every other failure.
//!
//! The parser's own texts are for programs in general; where they say less than is known here, they are said anew.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::message::{Report, typed};

/// The failure in words; nothing for what is no failure (`--help`), and for what only the parser can explain. `program`
/// is what was typed to start it.
pub(super) fn report(error: &clap::Error, words: &[OsString], program: &str) -> Option<Report> {
    let words: Option<Vec<&str>> = words.iter().skip(1).map(|word| word.to_str()).collect();
    let words = words.unwrap_or_default();
    let one = |kind| first(error, kind);
    let (text, mut hints) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let hint = meant(error, ContextKind::SuggestedSubcommand);
            let hint = hint.unwrap_or_else(|| format!("see what there is with: {program} help"));
            (format!("no command '{}'", one(ContextKind::InvalidSubcommand)?), vec![hint])
        }
        ErrorKind::UnknownArgument => {
            let hints = meant(error, ContextKind::SuggestedArg).into_iter().collect();
            (format!("unexpected argument '{}'", one(ContextKind::InvalidArg)?), hints)
        }
        ErrorKind::InvalidValue => {
            let (argument, value) = (one(ContextKind::InvalidArg)?, one(ContextKind::InvalidValue)?);
            let text = match value.as_str() {
                "" => format!("'{argument}' needs a value"),
                value => format!("'{value}' is no value of '{argument}'"),
            };
            (text, vec![format!("it is one of: {}", all(error, ContextKind::ValidValue).join(", "))])
        }
        ErrorKind::ValueValidation => {
            (format!("{}: {}", option(&one(ContextKind::InvalidArg)?), error.source()?), Vec::new())
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = all(error, ContextKind::InvalidArg);
            let verb = if missing.len() == 1 { "is" } else { "are" };
            (format!("{} {verb} missing", missing.join(", ")), Vec::new())
        }
        _ => return None,
    };
    hints.extend(habit(error.kind(), &words, program));
    if hints.is_empty() {
        hints.extend(usage(error));
    }
    Some(Report { error: text, hints, causes: Vec::new() })
}

/// The first text of this kind that the parser tells.
fn first(error: &clap::Error, kind: ContextKind) -> Option<String> {
    all(error, kind).into_iter().next()
}

/// All texts of this kind.
fn all(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::StyledStr(text)) => vec![text.to_string()],
        _ => Vec::new(),
    }
}

fn meant(error: &clap::Error, kind: ContextKind) -> Option<String> {
    let texts: Vec<String> = all(error, kind).iter().map(|text| format!("'{text}'")).collect();
    (!texts.is_empty()).then(|| format!("did you mean {}?", texts.join(" or ")))
}

/// How the command is typed.
fn usage(error: &clap::Error) -> Option<String> {
    let usage = first(error, ContextKind::Usage)?;
    let usage = usage.trim().strip_prefix("Usage: ").map(str::to_owned).unwrap_or(usage);
    Some(format!("usage: {usage}"))
}

/// `--timeout` of `--timeout <TIME>`.
fn option(argument: &str) -> &str {
    argument.split(' ').next().unwrap_or(argument)
}

/// The slips that other tools' habits cause.
fn habit(kind: ErrorKind, words: &[&str], program: &str) -> Option<String> {
    match kind {
        ErrorKind::MissingRequiredArgument => split_spec(words, program),
        ErrorKind::UnknownArgument if words.contains(&"download") => {
            Some("the destination is an option: -o FILE".to_owned())
        }
        _ => None,
    }
}

/// `sacker info web@live`: pods name a version so, the commands want two words.
fn split_spec(words: &[&str], program: &str) -> Option<String> {
    let both = |word: &&&str| {
        !word.starts_with('-') && word.rsplit_once('@').is_some_and(|(p, s)| !p.is_empty() && !s.is_empty())
    };
    let (package, spec) = words.iter().find(both)?.rsplit_once('@')?;
    let mut command = vec![program.to_owned()];
    for word in words {
        if word.rsplit_once('@') == Some((package, spec)) {
            command.extend([typed(package), typed(spec)]);
        } else {
            command.push(typed(word));
        }
    }
    Some(format!("package and version are two words: {}", command.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_of_a_pod_is_split() {
        assert_eq!(
            split_spec(&["info", "-o", "json", "my app@live"], "sacker").as_deref(),
            Some("package and version are two words: sacker info -o json 'my app' live")
        );
        for words in [&["info", "web"][..], &["info", "@live"], &["info", "web@"], &["add", "web"]] {
            assert_eq!(split_spec(words, "sacker"), None, "{words:?}");
        }
    }

    /// What is printed for a command line, without colour.
    fn told(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = <super::super::arguments::Arguments as clap::Parser>::try_parse_from(&words);
        let report =
            report(&error.expect_err("it does not parse"), &words, "sacker").expect("it is told here");
        [format!("error: {}", report.error)]
            .into_iter()
            .chain(report.hints.iter().map(|hint| format!("hint: {hint}")))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_refusal_has_one_form() {
        for (line, expected) in [
            ("sacker lsit", "error: no command 'lsit'\nhint: did you mean 'list'?"),
            ("sacker publish", "error: no command 'publish'\nhint: see what there is with: sacker help"),
            ("sacker list --outptu", "error: unexpected argument '--outptu'\nhint: did you mean '--output'?"),
            (
                "sacker tags a b",
                "error: unexpected argument 'b'\nhint: usage: sacker tags [OPTIONS] <PACKAGE>",
            ),
            (
                "sacker list -o xml",
                "error: 'xml' is no value of '--output <FORMAT>'\nhint: it is one of: table, json, yaml, name",
            ),
            (
                "sacker list -o",
                "error: '--output <FORMAT>' needs a value\nhint: it is one of: table, json, yaml, name",
            ),
            ("sacker list --timeout 0", "error: --timeout: '0' is not a time such as 90s, 2m or 1m30s"),
            ("sacker info web", "error: <SPEC> is missing\nhint: usage: sacker info <PACKAGE> <SPEC>"),
            (
                "sacker info",
                "error: <PACKAGE>, <SPEC> are missing\nhint: usage: sacker info <PACKAGE> <SPEC>",
            ),
        ] {
            assert_eq!(told(line), expected, "{line}");
        }
    }
}
