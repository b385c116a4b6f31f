//! What a workload asks for, and what its pod template should say: pure.

use crate::api::Reason;
use crate::controller::views::Seen;
use crate::model::{PackageName, PackageView, PinnedSpec, Spec, VersionRecord};

/// One pin of a workload: `<package>@<spec>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Exact bytes: no ledger has a say in it.
    Exact(PinnedSpec),
    /// What a ledger says.
    Of(PackageName, Spec),
    /// Neither, as this message says.
    Invalid(String),
}

impl Wish {
    pub(super) fn parse(text: &str) -> Self {
        if let Ok(exact) = text.parse() {
            return Self::Exact(exact);
        }
        // From the right: a package name may contain '@'.
        let Some((package, spec)) = text.rsplit_once('@') else {
            return Self::Invalid(format!("'{text}' is not <package>@<version, tag or latest>"));
        };
        let parsed = PackageName::new(package).and_then(|package| Ok((package, spec.parse()?)));
        match parsed {
            Ok((package, spec)) => Self::Of(package, spec),
            Err(error) => Self::Invalid(format!("'{text}': {error}")),
        }
    }
}

/// What is known about a package, for a workload of one namespace.
#[derive(Debug)]
pub(super) enum Known<'a> {
    /// Nothing that can be used, for this reason.
    Nothing(Reason, String),
    /// It is being read.
    Reading,
    /// What the last look showed.
    Seen(&'a Seen),
}

/// What comes of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The pod template should say this.
    Pin(String),
    /// It stays as it is, for this reason.
    Keep(Reason, String),
    /// Nothing is known yet; a look is on its way.
    Wait,
    /// The view does not go back as far as this version: the ledger has to be asked.
    Ask,
}

/// `now` is what the pod template says.
pub(super) fn decide(wish: &Wish, now: Option<&str>, known: &Known<'_>) -> Outcome {
    let (package, spec) = match wish {
        Wish::Exact(exact) => return Outcome::Pin(exact.to_string()),
        Wish::Invalid(message) => return Outcome::Keep(Reason::InvalidSpec, message.clone()),
        Wish::Of(package, spec) => (package, spec),
    };
    // A version's bytes never change, so what was found once needs no ledger.
    let pinned = now.and_then(|text| text.parse::<PinnedSpec>().ok());
    if let (Spec::Version(version), Some(pinned)) = (spec, &pinned)
        && pinned.version == *version
        && pinned.package == *package
    {
        return Outcome::Pin(pinned.to_string());
    }
    let view = match known {
        Known::Reading => return Outcome::Wait,
        Known::Nothing(reason, message) | Known::Seen(Seen::Failed { reason, message }) => {
            return Outcome::Keep(*reason, message.clone());
        }
        Known::Seen(Seen::Absent) => {
            let message = format!("the ledger has no package '{package}' yet");
            return Outcome::Keep(Reason::PackageNotFound, message);
        }
        Known::Seen(Seen::View(view)) => view,
    };
    match (record(view, spec), spec) {
        (Some(record), _) => Outcome::Pin(record.pinned().to_string()),
        (None, Spec::Version(_)) => Outcome::Ask,
        (None, Spec::Latest) => {
            Outcome::Keep(Reason::VersionNotFound, format!("package '{package}' has no version"))
        }
        (None, Spec::Tag(tag)) => {
            let message = format!("tag '{tag}' of package '{package}' points to no version");
            Outcome::Keep(Reason::VersionNotFound, message)
        }
    }
}

fn record<'a>(view: &'a PackageView, spec: &Spec) -> Option<&'a VersionRecord> {
    match spec {
        Spec::Latest => view.latest.as_deref(),
        Spec::Tag(tag) => view.tags.iter().find(|view| view.state.tag == *tag)?.record.as_deref(),
        Spec::Version(version) => {
            let tagged = view.tags.iter().filter_map(|view| view.record.as_deref());
            view.recent.iter().map(AsRef::as_ref).chain(tagged).find(|record| record.version == *version)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SHA: &str = "+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn known(reason: Reason) -> Known<'static> {
        Known::Nothing(reason, "why".into())
    }

    #[test]
    fn exact_bytes_need_no_ledger() {
        let text = format!("web/app@7{SHA}");
        let wish = Wish::parse(&text);
        assert_eq!(decide(&wish, None, &known(Reason::LedgerUnavailable)), Outcome::Pin(text));
    }

    #[test]
    fn a_version_that_was_found_once_needs_no_ledger() {
        let text = format!("web/app@7{SHA}");
        let down = known(Reason::LedgerUnavailable);
        assert_eq!(decide(&Wish::parse("web/app@7"), Some(&text), &down), Outcome::Pin(text.clone()));
        let kept = Outcome::Keep(Reason::LedgerUnavailable, "why".into());
        assert_eq!(decide(&Wish::parse("web/app@8"), Some(&text), &down), kept);
        assert_eq!(decide(&Wish::parse("web/other@7"), Some(&text), &down), kept);
        assert_eq!(decide(&Wish::parse("web/app@live"), Some(&text), &down), kept);
    }

    #[test]
    fn what_is_no_pin_is_said_and_changes_nothing() {
        for text in ["", "app", "@live", "app@", "a b\n@live"] {
            let outcome = decide(&Wish::parse(text), Some("before"), &Known::Reading);
            assert!(matches!(outcome, Outcome::Keep(Reason::InvalidSpec, _)), "{text}: {outcome:?}");
        }
    }

    #[test]
    fn a_view_answers_for_latest_tags_and_recent_versions() {
        let record = Arc::new(VersionRecord::example("web/app", 9, b""));
        let view =
            PackageView { latest: Some(Arc::clone(&record)), recent: vec![record], ..PackageView::default() };
        let seen = Seen::View(Box::new(view));
        let outcome = |text: &str| decide(&Wish::parse(text), None, &Known::Seen(&seen));
        assert_eq!(outcome("web/app@latest"), Outcome::Pin(format!("web/app@9{SHA}")));
        assert_eq!(outcome("web/app@9"), Outcome::Pin(format!("web/app@9{SHA}")));
        assert_eq!(outcome("web/app@3"), Outcome::Ask);
        assert!(matches!(outcome("web/app@live"), Outcome::Keep(Reason::VersionNotFound, _)));
    }
}
