//! What somebody meant whose command line does not parse: the slips that other tools' habits cause.

use std::ffi::OsString;

use clap::error::ErrorKind;

use super::message::typed;

/// The command line that was meant, where one can be told from what was typed.
pub(super) fn hint(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let words: Vec<&str> = words.iter().skip(1).map(|word| word.to_str()).collect::<Option<_>>()?;
    match error.kind() {
        ErrorKind::MissingRequiredArgument => split_spec(&words),
        ErrorKind::UnknownArgument if words.contains(&"download") => {
            Some("the destination is an option: -o FILE".to_owned())
        }
        _ => None,
    }
}

/// `sacker info web@live`: pods name a version so, the commands want two words.
fn split_spec(words: &[&str]) -> Option<String> {
    let both = |word: &&&str| {
        !word.starts_with('-') && word.rsplit_once('@').is_some_and(|(p, s)| !p.is_empty() && !s.is_empty())
    };
    let (package, spec) = words.iter().find(both)?.rsplit_once('@')?;
    let mut command = vec!["sacker".to_owned()];
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
            split_spec(&["info", "-o", "json", "my app@live"]).as_deref(),
            Some("package and version are two words: sacker info -o json 'my app' live")
        );
        for words in [&["info", "web"][..], &["info", "@live"], &["info", "web@"], &["add", "web"]] {
            assert_eq!(split_spec(words), None, "{words:?}");
        }
    }
}
