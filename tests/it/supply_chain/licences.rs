//! Expressions of licences (SPDX specification, annex D), judged by what `deny.toml` allows.

use std::collections::{BTreeSet, VecDeque};

use super::read;

/// What may be linked into what is given away.
pub(super) struct Policy(BTreeSet<String>);

impl Policy {
    /// That of `deny.toml`.
    pub(super) fn of_project() -> Self {
        let file = read("deny.toml");
        let (_, section) = file.split_once("[licenses]").expect("a section");
        let (_, list) = section.split_once("allow = [").expect("a list");
        let (list, _) = list.split_once(']').expect("its end");
        Self(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// Whether the expression can be met by allowed licences alone.
    pub(super) fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ");
        let mut words: VecDeque<&str> = spaced.split_whitespace().collect();
        let holds = self.any(&mut words);
        assert!(words.is_empty(), "'{expression}' goes on with {words:?}");
        holds
    }

    fn any(&self, words: &mut VecDeque<&str>) -> bool {
        let mut holds = self.all(words);
        while take(words, "OR") {
            holds |= self.all(words);
        }
        holds
    }

    fn all(&self, words: &mut VecDeque<&str>) -> bool {
        let mut holds = self.one(words);
        while take(words, "AND") {
            holds &= self.one(words);
        }
        holds
    }

    fn one(&self, words: &mut VecDeque<&str>) -> bool {
        if take(words, "(") {
            let holds = self.any(words);
            assert!(take(words, ")"), "no ')' before {words:?}");
            return holds;
        }
        let mut licence = words.pop_front().expect("a licence").to_owned();
        if take(words, "WITH") {
            licence = format!("{licence} WITH {}", words.pop_front().expect("an exception"));
        }
        self.0.contains(&licence)
    }
}

/// Whether the next word was this one, which is gone then.
fn take(words: &mut VecDeque<&str>, word: &str) -> bool {
    let is_next = words.front() == Some(&word);
    if is_next {
        words.pop_front();
    }
    is_next
}

#[test]
fn an_expression_is_met_or_not() {
    let policy = Policy::of_project();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only AND Zlib", true),
        ("(MIT OR GPL-3.0-only) AND MPL-2.0", false),
        ("ISC AND (Apache-2.0 OR GPL-2.0-only) AND BSD-3-Clause", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-2.0-only WITH LLVM-exception", false),
    ] {
        assert_eq!(policy.allows(expression), expected, "{expression}");
    }
}
