//! What is not shown, in words: what there is instead, and where else it may be. Pure.
//!
//! A cluster shows part of a ledger. That something is not there is said only where it is known.

use std::collections::BTreeSet;

use super::objects::Objects;
use super::package::Package;
use crate::cli::items::VersionItem;
use crate::cli::message::{listed, typed};
use crate::cli::suggest::closest;
use crate::error::{Error, Missing, Result};
use crate::model::{PackageName, Spec, TagName, Version};

/// How many packages or tags a message names.
const NAMES: usize = 10;

/// How many tags a SackerPackage shows at most.
const MIRRORED_TAGS: usize = 100;

/// The failure that no object is about a package. `all` are the objects about every package there.
pub(super) fn package(name: &PackageName, all: &Objects) -> Error {
    if let Err(broken) = name.check_new() {
        return broken;
    }
    let names = names(all);
    let hint = match closest(name.as_str(), names.iter().map(String::as_str)) {
        Some(close) => format!("did you mean '{close}'?"),
        None if names.is_empty() => {
            "there is no SackerPackage and no SackerTag; -n and -A look elsewhere".to_owned()
        }
        None => format!("its packages: {}; -n and -A look elsewhere", listed(&names, NAMES)),
    };
    shown(format!("package '{name}'"), &all.place).with_hint(hint)
}

/// The names of all packages that objects are about.
fn names(all: &Objects) -> Vec<String> {
    let packages = all.packages.iter().map(|object| object.spec.package.clone());
    let tags = all.tags.iter().map(|object| object.spec.package.clone());
    packages.chain(tags).collect::<BTreeSet<_>>().into_iter().collect()
}

fn shown(what: String, place: &str) -> Error {
    Error::not_found(Missing::Shown { what, place: place.to_owned() })
}

impl Package {
    /// The version that a spec names.
    ///
    /// # Errors
    /// `NotFound`, with what there is instead.
    pub(super) fn find(&self, spec: &Spec) -> Result<VersionItem> {
        let version = match spec {
            Spec::Version(version) => *version,
            Spec::Latest => self.latest().ok_or_else(|| self.no_latest())?,
            Spec::Tag(tag) => {
                self.tag(tag).and_then(|kept| kept.tag.version).ok_or_else(|| self.no_tag(tag))?
            }
        };
        self.versions().remove(&version).ok_or_else(|| self.no_version(version))
    }

    /// The failure that a tag is not set, or that nobody knows.
    pub(super) fn no_tag(&self, tag: &TagName) -> Error {
        let names: Vec<String> = self.tags().iter().map(|kept| kept.tag.tag.to_string()).collect();
        let hint = match closest(tag.as_str(), names.iter().map(String::as_str)) {
            Some(close) => format!("did you mean '{close}'?"),
            None if names.is_empty() => "it shows no tag of it".to_owned(),
            None => format!("its tags: {}", listed(&names, NAMES)),
        };
        if self.is_complete() && names.len() < MIRRORED_TAGS {
            return Error::not_found(Missing::Tag(self.name.clone(), tag.clone())).with_hint(hint);
        }
        shown(format!("tag '{tag}' of package '{}'", self.name), &self.place).with_hint(hint)
    }

    /// The failure that no SackerTag keeps the history of a tag.
    pub(super) fn no_history(&self, tag: &TagName) -> Error {
        if self.tag(tag).is_none() {
            return self.no_tag(tag);
        }
        shown(format!("the history of tag '{tag}' of package '{}'", self.name), &self.place)
            .with_hint(format!("it has no SackerTag; ask the ledger: {}", self.in_ledger("history", tag)))
    }

    fn no_latest(&self) -> Error {
        let hint = match self.state() {
            None => "a SackerPackage would; there is none for it".to_owned(),
            Some(state) => match state.blind() {
                Some(why) => why.to_owned(),
                None => "its SackerPackage shows no version".to_owned(),
            },
        };
        shown(format!("the newest version of package '{}'", self.name), &self.place).with_hint(hint)
    }

    fn no_version(&self, version: Version) -> Error {
        let newest: Vec<String> = self.versions().keys().rev().take(3).map(Version::to_string).collect();
        if self.is_complete() && self.latest().is_some_and(|latest| latest < version) {
            return Error::not_found(Missing::Version(self.name.clone(), version))
                .with_hint(format!("its newest versions: {}", newest.join(", ")));
        }
        shown(format!("version {version} of package '{}'", self.name), &self.place).with_hint(format!(
            "it shows the 10 newest and those that tags point to; ask the ledger: {}",
            self.in_ledger("info", &version)
        ))
    }

    /// The command that asks the ledger.
    pub(super) fn in_ledger(&self, verb: &str, word: &impl ToString) -> String {
        format!("sacker {verb} {} {}", typed(self.name.as_str()), typed(&word.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SackerPackage;

    fn mirror(name: &str, ready: &str) -> SackerPackage {
        let sha256 = "a".repeat(64);
        let version = |version| serde_json::json!({ "version": version, "sha256": sha256 });
        let object = serde_json::json!({
            "apiVersion": "sacker.dev/v1alpha1", "kind": "SackerPackage",
            "metadata": { "namespace": "web", "name": "x" },
            "spec": { "package": name },
            "status": {
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": "LedgerUnavailable", "message": "it is down",
                    "lastTransitionTime": "2026-11-21T10:00:00Z",
                }],
                "latest": version(31), "recentVersions": [version(31), version(30)], "versionCount": 31,
                "tags": [{ "name": "live", "version": 7, "sha256": sha256 }],
            },
        });
        serde_json::from_value(object).expect("an object")
    }

    fn objects(packages: Vec<SackerPackage>) -> Objects {
        Objects { place: "namespace 'web'".into(), packages, tags: Vec::new() }
    }

    fn frontend(ready: &str) -> Package {
        let name = PackageName::existing("frontend");
        let found = Package::of(&name, objects(vec![mirror("frontend", ready)])).expect("one ledger");
        found.expect("an object")
    }

    fn spec(text: &str) -> Spec {
        text.parse().expect("a spec")
    }

    fn told(error: &Error) -> String {
        format!("{error}; {}", error.hint().unwrap_or_default())
    }

    #[test]
    fn what_is_shown_is_found() {
        for (text, version, tags) in
            [("latest", 31, ""), ("30", 30, ""), ("live", 7, "live"), ("7", 7, "live")]
        {
            let item = frontend("True").find(&spec(text)).expect(text);
            let names: Vec<_> = item.tags.iter().map(TagName::as_str).collect();
            assert_eq!((item.version.get(), names.join(",").as_str()), (version, tags), "{text}");
        }
    }

    #[test]
    fn only_what_is_known_is_denied() {
        for (ready, text, expected) in [
            ("True", "32", "package 'frontend' has no version 32; its newest versions: 31, 30, 7"),
            ("True", "liev", "package 'frontend' has no tag 'liev'; did you mean 'live'?"),
            (
                "True",
                "8",
                "no object in namespace 'web' shows version 8 of package 'frontend'; it shows the 10 newest and those \
                 that tags point to; ask the ledger: sacker info frontend 8",
            ),
            (
                "Unknown",
                "canary",
                "no object in namespace 'web' shows tag 'canary' of package 'frontend'; its tags: live",
            ),
        ] {
            assert_eq!(told(&frontend(ready).find(&spec(text)).expect_err(text)), expected);
        }
    }

    #[test]
    fn a_package_that_is_not_there() {
        let all = objects(vec![mirror("frontend", "True"), mirror("backend", "True")]);
        for (name, hint) in [
            ("frontent", "did you mean 'frontend'?"),
            ("database", "its packages: backend, frontend; -n and -A look elsewhere"),
        ] {
            let expected = format!("no object in namespace 'web' shows package '{name}'; {hint}");
            assert_eq!(told(&package(&PackageName::existing(name), &all)), expected);
        }
        let broken = package(&PackageName::existing("a//b"), &all);
        assert!(broken.to_string().contains("is not allowed"), "{broken}");
    }
}
