//! Who may use a ledger from inside a cluster: the rules of a SackerLedger, as a pure function. Default deny.

use std::collections::BTreeMap;
use std::fmt;

use super::{Glob, PackageName};

/// What a rule grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// See the package, its versions and tags in the cluster.
    Read,
    /// Move and remove its tags.
    Tag,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Tag => "tag",
        })
    }
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// An operator this sacker does not know: never matches, so that an unknown rule grants nothing.
    Unknown,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorRequirement {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: SelectorOperator,
    /// The values it compares with.
    pub values: Vec<String>,
}

/// A label selector with Kubernetes' meaning: all conditions must hold; an empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Labels that must have these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    pub match_expressions: Vec<SelectorRequirement>,
}

impl LabelSelector {
    /// Whether `labels` satisfy every condition.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |requirement: &SelectorRequirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                SelectorOperator::In => listed,
                SelectorOperator::NotIn => !listed,
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
                SelectorOperator::Unknown => false,
            }
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(holds)
    }
}

/// One rule: these namespaces may do this with these packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The namespaces, by their labels; absent matches none (a forgotten selector must not open the ledger).
    pub namespaces: Option<LabelSelector>,
    /// The packages.
    pub packages: Vec<Glob>,
    /// What they may do.
    pub verbs: Vec<Verb>,
}

/// A refusal, saying which part of which rule is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The sentence for a condition.
    pub message: String,
}

/// Whether a namespace with these labels may do `verb` with `package`.
///
/// # Errors
/// The denial. It speaks of rules and of what the tenant typed, never of what the ledger holds.
pub fn check_access(
    rules: &[AccessRule],
    namespace: &str,
    labels: &BTreeMap<String, String>,
    package: &PackageName,
    verb: Verb,
) -> Result<(), Denial> {
    let here = |rule: &&AccessRule| rule.namespaces.as_ref().is_some_and(|selector| selector.matches(labels));
    let covers = |rule: &&AccessRule| rule.packages.iter().any(|glob| glob.matches(package.as_str()));
    let for_namespace: Vec<_> = rules.iter().filter(here).collect();
    let for_package: Vec<_> = for_namespace.iter().copied().filter(covers).collect();
    if for_package.iter().any(|rule| rule.verbs.contains(&verb)) {
        return Ok(());
    }
    let missing = if rules.is_empty() {
        "the ledger has no access rule at all".to_owned()
    } else if for_namespace.is_empty() {
        format!("no access rule of the ledger selects namespace '{namespace}' by its labels")
    } else if for_package.is_empty() {
        format!("no access rule for namespace '{namespace}' covers package '{package}'")
    } else {
        format!(
            "the access rules for namespace '{namespace}' and package '{package}' do not grant the verb '{verb}'"
        )
    };
    Err(Denial { message: format!("{missing}; ask the owner of the SackerLedger to add it to spec.access") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(label: Option<(&str, &str)>, packages: &[&str], verbs: &[Verb]) -> AccessRule {
        let selector = LabelSelector {
            match_labels: label.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            match_expressions: Vec::new(),
        };
        AccessRule {
            namespaces: Some(selector),
            packages: packages.iter().map(|glob| Glob::new(*glob)).collect(),
            verbs: verbs.to_vec(),
        }
    }

    fn check(rules: &[AccessRule], labels: &[(&str, &str)], package: &str, verb: Verb) -> Result<(), String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check_access(rules, "web", &labels, &PackageName::existing(package), verb)
            .map_err(|denial| denial.message)
    }

    #[test]
    fn a_rule_grants_what_it_lists() {
        let rules = [rule(Some(("team", "web")), &["frontend-*", "web/**"], &[Verb::Read, Verb::Tag])];
        for package in ["frontend-server", "web/a/b"] {
            for verb in [Verb::Read, Verb::Tag] {
                check(&rules, &[("team", "web"), ("x", "y")], package, verb).expect(package);
            }
        }
    }

    #[test]
    fn everything_else_is_denied_and_the_message_says_what_is_missing() {
        let rules = [
            rule(Some(("team", "web")), &["frontend-*"], &[Verb::Read]),
            AccessRule {
                namespaces: None,
                packages: vec![Glob::new("**")],
                verbs: vec![Verb::Read, Verb::Tag],
            },
        ];
        for (rules, labels, package, verb, missing) in [
            (&[][..], &[("team", "web")][..], "frontend-a", Verb::Read, "no access rule at all"),
            (&rules, &[("team", "api")], "frontend-a", Verb::Read, "selects namespace 'web'"),
            (&rules, &[], "frontend-a", Verb::Read, "selects namespace 'web'"),
            (&rules, &[("team", "web")], "backend", Verb::Read, "covers package 'backend'"),
            (&rules, &[("team", "web")], "frontend-a/b", Verb::Read, "covers package"),
            (&rules, &[("team", "web")], "frontend-a", Verb::Tag, "do not grant the verb 'tag'"),
        ] {
            let message = check(rules, labels, package, verb).expect_err(missing);
            assert!(message.contains(missing), "{message}");
        }
    }

    #[test]
    fn verbs_and_packages_of_different_rules_do_not_mix() {
        let rules = [rule(None, &["a"], &[Verb::Tag]), rule(None, &["b"], &[Verb::Read])];
        check(&rules, &[], "b", Verb::Tag).expect_err("tag is granted for a only");
    }

    #[test]
    fn selectors_have_the_meaning_of_kubernetes() {
        let requirement = |operator, values: &[&str]| LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![SelectorRequirement {
                key: "team".into(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        };
        let with = BTreeMap::from([("team".to_owned(), "web".to_owned())]);
        let without = BTreeMap::new();
        for (operator, values, there, absent) in [
            (SelectorOperator::In, &["web", "api"][..], true, false),
            (SelectorOperator::In, &["api"], false, false),
            (SelectorOperator::NotIn, &["web"], false, true),
            (SelectorOperator::NotIn, &["api"], true, true),
            (SelectorOperator::Exists, &[], true, false),
            (SelectorOperator::DoesNotExist, &[], false, true),
            (SelectorOperator::Unknown, &["web"], false, false),
        ] {
            let selector = requirement(operator, values);
            assert_eq!(
                (selector.matches(&with), selector.matches(&without)),
                (there, absent),
                "{operator:?} {values:?}"
            );
        }
        assert!(LabelSelector::default().matches(&without), "an empty selector matches everything");
    }
}
