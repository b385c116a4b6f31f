//! The schema rules that several kinds share. They say in CEL what [`crate::model`] says in Rust; `tests/it/crds.rs`
//! holds the two together.

use kube::core::Rule;

fn rule(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(message)
}

/// The field cannot be changed after creation.
pub(super) fn immutable() -> Rule {
    rule("self == oldSelf", "the field cannot be changed: delete the object and create another")
}

/// No component is empty.
pub(super) fn package_slashes() -> Rule {
    rule(
        "self.split('/').all(part, part != '')",
        "a package name must not begin or end with '/' or contain '//'",
    )
}

/// No component that the object layout uses.
pub(super) fn package_components() -> Rule {
    rule(
        "self.split('/').all(part, !(part in ['.', '..', 'versions', 'tags', 'history', 'generations']))",
        "each of the components '.', '..', 'versions', 'tags', 'history' and 'generations' is reserved",
    )
}

/// Nothing that a terminal would take for something else.
pub(super) fn package_characters() -> Rule {
    rule(
        r"!self.matches(r'[\p{Cc}\x{200e}\x{200f}\x{061c}\x{202a}-\x{202e}\x{2066}-\x{2069}]')",
        "a package name must not contain control characters",
    )
}

/// Nothing that a command line would take for an option.
pub(super) fn package_begin() -> Rule {
    rule("!self.startsWith('-')", "a package name must not begin with '-'")
}

/// None of sacker's own names.
pub(super) fn package_not_ours() -> Rule {
    rule(
        "!self.startsWith('sacker:') && self.split('/')[0] != '_sacker'",
        "names that begin with 'sacker:' or '_sacker/' are sacker's own",
    )
}

/// The length is counted in bytes, while `maxLength` counts characters.
pub(super) fn package_length() -> Rule {
    rule("size(bytes(self)) <= 512", "a package name has too many bytes, 512 are allowed")
}

/// Letters, digits, '.', '_' and '-'.
pub(super) fn tag_characters() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$')",
        "a tag must be letters, digits, '.', '_' and '-', beginning with a letter or digit; 128 are allowed",
    )
}

/// `latest` is computed, never stored.
pub(super) fn tag_not_latest() -> Rule {
    rule(
        "self.lowerAscii() != 'latest'",
        "the tag 'latest' is reserved, in any case: it always is the newest version",
    )
}

/// Nothing that people or parsers could take for a version.
pub(super) fn tag_not_number() -> Rule {
    rule("!self.matches('^[vV+-]?[0-9_]*[0-9][0-9_]*$')", "the tag reads as a version number")
}

/// A followed tag may be `latest` too, but only in its one spelling.
pub(super) fn followed_tag_not_latest() -> Rule {
    rule(
        "self == 'latest' || self.lowerAscii() != 'latest'",
        "'latest' is reserved, in any case: to follow the newest version, write it in small letters",
    )
}

/// No room for credentials, and nothing that could be hidden in a message.
pub(super) fn uri_plain() -> Rule {
    rule(
        r"!self.matches('^[^/]*//[^/?]*@') && !self.contains('#') && !self.matches(r'[\s\p{Cc}]')",
        "a URI has no credentials, no '#' and no white space; use the operator's own AWS settings",
    )
}

/// A kind of ledger that exists, with what it needs.
pub(super) fn ledger_uri() -> Rule {
    rule(
        r"self.matches(r'^(dynamo://[A-Za-z0-9-]+/[A-Za-z0-9_.-]{3,250}/*|s3://[a-z0-9.-]{3,63}(/[^?]*)?|zk://[A-Za-z0-9.,:_\[\]-]+/[^?]+|git[+](ssh|https?)://[A-Za-z0-9@.:_\[\]-]+/[^?]+|(git[+])?file:///[^?]+)([?].*)?$')",
        "the ledger must be dynamo://<region>/<prefix>, s3://<bucket>[/<prefix>], zk://<host>[,<host>...]/<root>, git+ssh://, git+https:// or git+file://, or file:///<absolute path>",
    )
}

/// A kind of store that exists, with what it needs.
pub(super) fn store_uri() -> Rule {
    rule(
        r"self.matches(r'^(s3://[a-z0-9.-]{3,63}(/[^?]*)?|file:///[^?]+|hdfs://[A-Za-z0-9.:-]+/[^?]+)([?].*)?$')",
        "the store must be s3://<bucket>[/<prefix>], file:///<absolute path> or hdfs://<namenode>[:port]/<path>",
    )
}

/// A Go-style duration within bounds. The numbers are short, because `duration()` of a long one is an error and not a
/// refusal: the API server tolerates a stored object that breaks a rule, but not one whose rule cannot be evaluated, and
/// such an object could not even lose its finalizer.
pub(super) fn duration_between(least: &str, most: &str) -> Rule {
    rule(
        &format!(
            "self.matches('^([0-9]{{1,5}}h|[0-9]{{1,7}}m|[0-9]{{1,9}}(ms|s))+$') && duration(self) >= duration('{least}') \
             && duration(self) <= duration('{most}')"
        ),
        &format!("the duration must be like '30s' or '1h30m', from {least} to {most}"),
    )
}
