//! What one argument asks for: a spec or a pinned spec, and where it goes.
//!
//! Pure. Not responsible for resolving anything.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{PackageName, PinnedSpec, Spec};

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// `<package>@<spec>`: the ledger says which bytes.
    Spec(PackageName, Spec),
    /// These bytes; no ledger is asked.
    Pinned(PinnedSpec),
    /// The pinned spec in this file.
    PinFile(PathBuf),
}

/// One thing to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What.
    pub(super) what: What,
    /// A directory or a file.
    pub(super) to: PathBuf,
}

impl What {
    /// Reads `<package>@<version, tag or latest>` or `<package>@<version>+sha256:<64 hex>`.
    ///
    /// # Errors
    /// `Invalid`, naming the rule.
    pub(super) fn parse(text: &str) -> Result<Self> {
        check_replaced(text)?;
        // From the right: a package name may contain '@'.
        let Some((package, spec)) = text.rsplit_once('@') else {
            let rule = format!("'{}' names no version", text.escape_debug());
            let hint = format!("write '{}@<version, tag or latest>'", text.escape_debug());
            return Err(Error::invalid(rule).with_hint(hint));
        };
        if spec.contains("+sha256:") {
            return text.parse().map(Self::Pinned);
        }
        // Lenient: only the ledger knows what a 2015 client wrote. See `Error::or_broken_rule`.
        let package =
            if package.is_empty() { PackageName::new(package)? } else { PackageName::existing(package) };
        Ok(Self::Spec(package, spec.parse()?))
    }
}

impl Request {
    /// Reads `SPEC=DEST`, or `SPEC` for the destination `to`.
    ///
    /// # Errors
    /// `Invalid` for a malformed spec, and when there is no destination.
    pub(super) fn parse(text: &str, to: Option<&Path>) -> Result<Self> {
        let (spec, own) = split(text);
        let what = What::parse(spec)?;
        match own.map(Path::new).or(to) {
            Some(to) => Ok(Self { what, to: to.to_owned() }),
            None => Err(no_destination(&spec.escape_debug())),
        }
    }
}

/// There is nowhere to put `what`.
pub(super) fn no_destination(what: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("no destination is given for '{what}'"))
        .with_hint("give --to <directory or file>, or set SACKER_TO")
}

/// Kubernetes leaves `$(NAME)` as it is where a container has no such variable.
///
/// # Errors
/// `Invalid`, naming the variable.
pub(super) fn check_replaced(text: &str) -> Result<()> {
    let Some((name, _)) = text.strip_prefix("$(").and_then(|rest| rest.split_once(')')) else {
        return Ok(());
    };
    let rule = format!("'{}' was not replaced by a value", text.escape_debug());
    let hint = format!("the container needs a variable '{}' in its 'env'", name.escape_debug());
    Err(Error::invalid(rule).with_hint(hint))
}

/// Cuts `SPEC=DEST` at the first `=` that can end a spec. Package names, too, may contain `=`, and paths both signs.
fn split(text: &str) -> (&str, Option<&str>) {
    let ends = text.match_indices('=').map(|(end, _)| end);
    match ends.into_iter().find(|&end| text[..end].contains('@')) {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    #[test]
    fn specs_and_destinations() {
        let pinned = format!("frontend@23+sha256:{}", Sha256::of(b"x"));
        let pinned_to = format!("{pinned}=/a/b.jar");
        for (text, what, to) in [
            ("frontend@live", "frontend@live", "/default"),
            ("frontend@live=/a/b.jar", "frontend@live", "/a/b.jar"),
            ("frontend@live=/a=b@c", "frontend@live", "/a=b@c"),
            ("a=b@live", "a=b@live", "/default"),
            ("a=b@live=/c", "a=b@live", "/c"),
            ("user@host@23=/c", "user@host@23", "/c"),
            (pinned.as_str(), pinned.as_str(), "/default"),
            (pinned_to.as_str(), pinned.as_str(), "/a/b.jar"),
        ] {
            let request = Request::parse(text, Some(Path::new("/default"))).expect(text);
            assert_eq!(request.to, Path::new(to), "{text}");
            assert_eq!(request.what, What::parse(what).expect(what), "{text}");
        }
        assert!(matches!(What::parse(&pinned), Ok(What::Pinned(_))));
    }

    #[test]
    fn refusals_name_the_rule() {
        for (text, rule) in [
            ("frontend", "'frontend' names no version"),
            ("frontend=/a", "'frontend=/a' names no version"),
            ("@live", "must not be empty"),
            ("frontend@", "the spec is empty"),
            ("frontend@1+sha256:abc", "64 hex digits"),
            ("$(SPEC)", "'$(SPEC)' was not replaced by a value"),
            ("$(SPEC)=/a", "'$(SPEC)=/a' was not replaced by a value"),
            ("frontend@live", "no destination is given for 'frontend@live'"),
        ] {
            let error = Request::parse(text, None).expect_err(text).to_string();
            assert!(error.contains(rule), "{text}: {error}");
        }
    }
}
