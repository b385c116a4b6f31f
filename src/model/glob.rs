//! Package patterns in access rules: `*` is any run within one component, `**` any run across components.

use std::fmt;

/// A pattern over package names, such as `frontend-*` or `web/**`. It must match the whole name.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern; every text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole of `name` fits the pattern.
    pub fn matches(&self, name: &str) -> bool {
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

/// Iterative with one remembered star of each kind: linear in practice, never exponential in hostile patterns.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*` and the last `**`: (pattern position, name position).
    let mut star: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            (double, star) = (Some((p, n)), None);
        } else if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
        } else if p < pattern.len() && n < name.len() && pattern[p] == name[n] {
            (p, n) = (p + 1, n + 1);
        } else if p == pattern.len() && n == name.len() {
            return true;
        } else if let Some((after, from)) =
            star.filter(|(_, from)| name.get(*from).is_some_and(|byte| *byte != b'/'))
        {
            star = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else if let Some((after, from)) = double.filter(|(_, from)| *from < name.len()) {
            (double, star) = (Some((after, from + 1)), None);
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("frontend-*", "frontend-server", true),
            ("frontend-*", "frontend-", true),
            ("frontend-*", "frontend-a/b", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/*", "ab", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/job", "x/y/job", true),
            ("**/job", "x/y/jobs", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*/*c", "ab/xc", true),
            ("**a*b", "x/y/ab/ab", true),
            ("", "a", false),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn hostile_patterns_end_quickly() {
        let pattern = "*a".repeat(200);
        assert!(!Glob::new(format!("{pattern}b")).matches(&"a".repeat(500)));
    }
}
