//! Where a ledger or a store lives, as a URI. A URI never holds a credential.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a ledger numbers versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbering {
    /// 1, 2, 3, ... without a gap.
    Sequence,
    /// Milliseconds since 1970: a client that cannot read can allocate one.
    Timestamp,
}

impl Numbering {
    /// The numbering as it is stored and printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Timestamp => "timestamp",
        }
    }
}

/// `dynamo://<region>/<prefix>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DynamoLocation {
    /// The AWS region.
    pub region: String,
    /// The table; the tags table is this with `-tags`.
    pub prefix: String,
    /// Another endpoint than the region's own, for local servers.
    pub endpoint: Option<String>,
}

/// `s3://<bucket>[/<prefix>]`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; empty, or ending in `/`.
    pub prefix: String,
    /// Another endpoint than AWS's own.
    pub endpoint: Option<String>,
    /// The region; else the environment's.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name. By default where an endpoint is given.
    pub path_style: bool,
    /// Accept a server whose conditional writes are broken, because only one client ever writes.
    pub single_writer: bool,
    /// The numbering to set up (`init`); later the ledger's own record decides.
    pub versions: Option<Numbering>,
    /// Stores only: a blob that is there is never written again (`If-None-Match: *` on every PUT), because a policy of the
    /// bucket demands it.
    pub create_only: bool,
    /// Stores only: how long an unreferenced blob is left alone; see [`FileLocation::grace`].
    pub grace: Option<Duration>,
}

// Numbering is part of a key in caches of open ledgers.
impl std::hash::Hash for Numbering {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// `file:///<absolute path>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileLocation {
    /// The directory.
    pub path: PathBuf,
    /// Stores only: how long an unreferenced blob is left alone, if not as long as usual. All writers of a store and its
    /// garbage collection must agree on it, so it is part of where the store is.
    pub grace: Option<Duration>,
}

impl FileLocation {
    /// A directory, with the usual settings.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), grace: None }
    }
}

/// Where a ledger lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LedgerUri {
    /// Two DynamoDB tables.
    Dynamo(DynamoLocation),
    /// Objects in a bucket.
    S3(S3Location),
    /// Files in a directory.
    File(FileLocation),
}

/// Where blobs live.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUri {
    /// Objects in a bucket.
    S3(S3Location),
    /// Files in a directory.
    File(FileLocation),
}

/// One store, or several that hold the same blobs: at least one, each once.
///
/// As text: URIs separated by white space, which no URI contains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUris(Vec<StoreUri>);

impl StoreUris {
    /// Stores in the order in which they are written and asked.
    ///
    /// # Errors
    /// `Invalid` for none, and for one that is there twice.
    pub fn new(uris: Vec<StoreUri>) -> Result<Self> {
        if uris.is_empty() {
            return Err(Error::invalid("no store is named"));
        }
        for (index, uri) in uris.iter().enumerate() {
            if uris[..index].contains(uri) {
                return Err(Error::invalid(format!("the store '{uri}' is named twice")));
            }
        }
        Ok(Self(uris))
    }
}

impl std::ops::Deref for StoreUris {
    type Target = [StoreUri];

    fn deref(&self) -> &[StoreUri] {
        &self.0
    }
}

impl From<StoreUri> for StoreUris {
    fn from(uri: StoreUri) -> Self {
        Self(vec![uri])
    }
}

impl FromStr for StoreUris {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text.split_whitespace().map(str::parse).collect::<Result<_>>()?)
    }
}

impl fmt::Display for StoreUris {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, uri) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{uri}")?;
        }
        Ok(())
    }
}

/// A URI cut into its parts, before any meaning.
struct Parts<'a> {
    text: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Vec<(String, String)>,
}

impl<'a> Parts<'a> {
    fn cut(text: &'a str) -> Result<Self> {
        let broken =
            |rule: &str| Error::invalid(format!("'{}' is not a ledger or store URI: {rule}", redacted(text)));
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| broken("it must look like 's3://bucket'"))?;
        if text.chars().any(|letter| letter.is_control() || letter == '#') {
            return Err(broken("it must not contain '#' or control characters"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match place.find('/') {
            Some(slash) => (&place[..slash], &place[slash + 1..]),
            None => (place, ""),
        };
        if scheme.contains('@') || authority.contains('@') {
            return Err(broken("credentials never stand in a URI; use the standard AWS settings"));
        }
        let query = url::form_urlencoded::parse(query.as_bytes())
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        Ok(Self { text, scheme, authority, path, query })
    }

    fn broken(&self, rule: impl fmt::Display) -> Error {
        Error::invalid(format!("'{}' is not allowed: {rule}", redacted(self.text)))
    }

    /// Takes the parameter `key`; what is left in the end is refused.
    fn take(&mut self, key: &str) -> Option<String> {
        let position = self.query.iter().position(|(name, _)| name == key)?;
        Some(self.query.remove(position).1)
    }

    fn take_flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(self.broken(format_args!("{key} is 'true' or 'false'"))),
        }
    }

    fn take_endpoint(&mut self) -> Result<Option<String>> {
        let Some(endpoint) = self.take("endpoint") else { return Ok(None) };
        let parsed = url::Url::parse(&endpoint).map_err(|_| self.broken("endpoint is not an http(s) URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(self.broken("endpoint is not an http(s) URL"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(self.broken("credentials never stand in an endpoint; use the standard AWS settings"));
        }
        if is_link_local(&parsed) {
            return Err(
                self.broken("endpoint is a link-local address, where clouds keep machine credentials")
            );
        }
        Ok(Some(endpoint.trim_end_matches('/').to_owned()))
    }

    fn finish<T>(self, value: T, known: &str) -> Result<T> {
        match self.query.first() {
            Some((key, _)) => {
                let key = shown_parameter(key);
                let rule = format!("unknown parameter {key}; known for {}://: {known}", self.scheme);
                Err(self.broken(rule))
            }
            None => Ok(value),
        }
    }
}

fn is_link_local(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_link_local(),
        Some(url::Host::Ipv6(address)) => {
            address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(|address| address.is_link_local())
        }
        _ => false,
    }
}

/// A URI as it may stand in a message: without its parameters, and without what stands where a credential would.
fn redacted(text: &str) -> String {
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    let start = place.find("://").map_or(0, |scheme| scheme + "://".len());
    let shown = match place.rfind('@') {
        Some(at) if at >= start => format!("{}…{}", &place[..start], &place[at..]),
        Some(at) => format!("…{}", &place[at..]),
        // The '?' may be part of a password.
        None if query.contains('@') && place[start..].contains(':') => format!("{}…", &place[..start]),
        None => place.to_owned(),
    };
    shown.chars().take(300).flat_map(char::escape_debug).collect()
}

/// The name of a parameter, unless it looks like a value that lost its name.
fn shown_parameter(key: &str) -> String {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if key.len() <= 32 && key.bytes().all(is_name) { format!("'{key}'") } else { "(not a name)".to_owned() }
}

fn dynamo(mut parts: Parts<'_>) -> Result<DynamoLocation> {
    let region = parts.authority.to_owned();
    let prefix = parts.path.trim_end_matches('/').to_owned();
    if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(parts.broken("it must be dynamo://<region>/<prefix>, such as dynamo://us-east-1/sacker"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !(3..=250).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
        return Err(parts.broken("a table prefix has 3 to 250 letters, digits, '_', '.' or '-'"));
    }
    // `<prefix>-tags` of one ledger would be the main table of the other.
    if prefix.ends_with("-tags") {
        return Err(parts.broken("a table prefix must not end in '-tags'"));
    }
    let endpoint = parts.take_endpoint()?;
    parts.finish(DynamoLocation { region, prefix, endpoint }, "endpoint")
}

/// The shortest grace: S3 tells ages in whole seconds, so nothing shorter can be compared. Below an hour is for tests only.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// What a URI is for: some parameters belong to one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Ledger,
    Store,
}

/// The parameter `grace` of a store.
fn grace(parts: &mut Parts<'_>, purpose: Use) -> Result<Option<Duration>> {
    if purpose == Use::Ledger {
        return Ok(None);
    }
    let Some(text) = parts.take("grace") else { return Ok(None) };
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    match duration.filter(|duration| *duration >= GRACE_MIN) {
        Some(duration) => Ok(Some(duration)),
        None => Err(parts.broken("grace is a time of at least 2s, such as '24h'")),
    }
}

fn shown_grace(grace: Option<Duration>) -> Option<String> {
    grace.map(|grace| {
        jiff::SignedDuration::try_from(grace).map_or_else(|_| String::new(), |span| format!("{span:#}"))
    })
}

fn s3(mut parts: Parts<'_>, purpose: Use) -> Result<S3Location> {
    let bucket = parts.authority.to_owned();
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
        return Err(parts.broken("a bucket name has 3 to 63 lower-case letters, digits, '.' or '-'"));
    }
    let prefix = parts.path.trim_end_matches('/');
    if prefix.split('/').any(str::is_empty) && !prefix.is_empty() {
        return Err(parts.broken("the prefix must not contain '//'"));
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let endpoint = parts.take_endpoint()?;
    let region = parts.take("region");
    let path_style = parts.take_flag("path_style")?.unwrap_or(endpoint.is_some());
    let single_writer = parts.take_flag("single_writer")?.unwrap_or(false);
    let grace = grace(&mut parts, purpose)?;
    let create_only = purpose == Use::Store && parts.take_flag("create_only")?.unwrap_or(false);
    let versions = match parts.take("versions").as_deref() {
        None => None,
        Some("sequence") => Some(Numbering::Sequence),
        Some("timestamp") => Some(Numbering::Timestamp),
        Some(_) => return Err(parts.broken("versions is 'sequence' or 'timestamp'")),
    };
    let location = S3Location {
        bucket,
        prefix,
        endpoint,
        region,
        path_style,
        single_writer,
        versions,
        create_only,
        grace,
    };
    let known = match purpose {
        Use::Ledger => "endpoint, region, path_style, single_writer, versions",
        Use::Store => "endpoint, region, path_style, single_writer, versions, create_only, grace",
    };
    parts.finish(location, known)
}

fn file(mut parts: Parts<'_>, purpose: Use) -> Result<FileLocation> {
    if !parts.authority.is_empty() || parts.path.is_empty() {
        return Err(parts.broken("it must be file:///<absolute path>"));
    }
    // One spelling per place, since open ledgers are kept by their URI.
    let components: Vec<&str> =
        parts.path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if components.contains(&"..") {
        return Err(parts.broken("the path must not contain '..'"));
    }
    if components.is_empty() {
        return Err(parts.broken("it must name a directory of its own, not '/'"));
    }
    let path = PathBuf::from(format!("/{}", components.join("/")));
    let grace = grace(&mut parts, purpose)?;
    parts.finish(FileLocation { path, grace }, if purpose == Use::Store { "grace" } else { "none" })
}

impl FromStr for LedgerUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = Parts::cut(text)?;
        match parts.scheme {
            "dynamo" => dynamo(parts).map(Self::Dynamo),
            "s3" => s3(parts, Use::Ledger).map(Self::S3),
            "file" => file(parts, Use::Ledger).map(Self::File),
            other => Err(parts.broken(format_args!(
                "'{other}' is not a kind of ledger; use dynamo://<region>/<prefix>, s3://<bucket> or file:///<path>"
            ))),
        }
    }
}

impl FromStr for StoreUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = Parts::cut(text)?;
        match parts.scheme {
            "s3" => s3(parts, Use::Store).map(Self::S3),
            "file" => file(parts, Use::Store).map(Self::File),
            other => Err(parts.broken(format_args!(
                "'{other}' is not a kind of store; use s3://<bucket> or file:///<path>"
            ))),
        }
    }
}

impl LedgerUri {
    /// The scheme: `dynamo`, `s3` or `file`.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Dynamo(_) => "dynamo",
            Self::S3(_) => "s3",
            Self::File(_) => "file",
        }
    }
}

/// Writes `?key=value&...` for the parameters that are set.
fn write_query(f: &mut fmt::Formatter<'_>, pairs: &[(&str, Option<&str>)]) -> fmt::Result {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let mut any = false;
    for (key, value) in pairs {
        if let Some(value) = value {
            query.append_pair(key, value);
            any = true;
        }
    }
    if any { write!(f, "?{}", query.finish()) } else { Ok(()) }
}

impl fmt::Display for DynamoLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamo://{}/{}", self.region, self.prefix)?;
        write_query(f, &[("endpoint", self.endpoint.as_deref())])
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix.trim_end_matches('/'))?;
        }
        let path_style = (self.path_style != self.endpoint.is_some()).then_some(if self.path_style {
            "true"
        } else {
            "false"
        });
        write_query(
            f,
            &[
                ("endpoint", self.endpoint.as_deref()),
                ("region", self.region.as_deref()),
                ("path_style", path_style),
                ("single_writer", self.single_writer.then_some("true")),
                ("versions", self.versions.map(Numbering::as_str)),
                ("create_only", self.create_only.then_some("true")),
                ("grace", shown_grace(self.grace).as_deref()),
            ],
        )
    }
}

impl fmt::Display for FileLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.path.display())?;
        write_query(f, &[("grace", shown_grace(self.grace).as_deref())])
    }
}

impl fmt::Display for LedgerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamo(location) => location.fmt(f),
            Self::S3(location) => location.fmt(f),
            Self::File(location) => location.fmt(f),
        }
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(location) => location.fmt(f),
            Self::File(location) => location.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in [
            "dynamo://us-east-1/sacker",
            "dynamo://us-east-1/sacker?endpoint=http%3A%2F%2F127.0.0.1%3A8000",
            "s3://bucket",
            "s3://bucket/a/b",
            "s3://bucket/a?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=eu-west-1&versions=sequence",
            "s3://bucket?endpoint=http%3A%2F%2F127.0.0.1%3A9000&path_style=false",
            "file:///var/lib/sacker/ledger",
        ] {
            let uri: LedgerUri = text.parse().expect(text);
            assert_eq!(uri.to_string(), text);
        }
    }

    #[test]
    fn stores_have_parameters_of_their_own() {
        for text in ["s3://bucket?create_only=true&grace=48h", "file:///var/blobs?grace=2s"] {
            let uri: StoreUri = text.parse().expect(text);
            assert_eq!(uri.to_string(), text);
            let error = text.parse::<LedgerUri>().expect_err("not for ledgers").to_string();
            assert!(error.contains("unknown parameter"), "{error}");
        }
        let error = "file:///var/blobs?grace=1s".parse::<StoreUri>().expect_err("too short").to_string();
        assert!(error.contains("grace is a time of at least 2s"), "{error}");
    }

    #[test]
    fn several_stores_are_separated_by_white_space() {
        let stores: StoreUris = " s3://one\n file:///two\ts3://three ".parse().expect("three");
        assert_eq!((stores.len(), stores.to_string().as_str()), (3, "s3://one file:///two s3://three"));
        for (text, rule) in [
            ("", "no store is named"),
            ("s3://one s3://one", "named twice"),
            ("s3://one ftp://x", "not a kind"),
        ] {
            let error = text.parse::<StoreUris>().expect_err(text).to_string();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        let uri: LedgerUri = "file:////var/./lib//sacker/".parse().expect("a URI");
        assert_eq!(uri.to_string(), "file:///var/lib/sacker");
    }

    #[test]
    fn refusals_name_the_rule_and_hide_credentials() {
        for (text, rule) in [
            ("bucket", "must look like"),
            ("ftp://x/y", "not a kind of ledger"),
            ("s3://key:secret@bucket", "credentials never stand in a URI"),
            ("s3://Bucket", "a bucket name has"),
            ("s3://bu", "a bucket name has"),
            ("s3://bucket?color=red", "unknown parameter 'color'"),
            ("s3://bucket?path_style=maybe", "'true' or 'false'"),
            ("s3://bucket?versions=random", "'sequence' or 'timestamp'"),
            ("s3://bucket?endpoint=ftp://h", "endpoint is not"),
            ("s3://bucket?endpoint=http://u:secret@h", "credentials never stand"),
            ("s3://bucket?endpoint=http://169.254.169.254", "link-local"),
            ("s3://bucket?endpoint=http://2852039166", "link-local"),
            ("s3://bucket?endpoint=http://[::ffff:169.254.169.254]", "link-local"),
            ("s3://bucket?endpoint=http://0xa9.0376.43518", "link-local"),
            ("s3://bucket?endpoint=http%3A%2F%2Fuser%3Asecret%40host", "credentials never stand"),
            ("s3://bucket?secret_key=secret", "unknown parameter 'secret_key'"),
            ("s3://bucket?wJalrXUtnFEMI/secret/bPxRfiCY", "unknown parameter (not a name)"),
            ("s3://bucket?path_style=secret", "'true' or 'false'"),
            ("s3://bucket?versions=sequence?key=secret", "'sequence' or 'timestamp'"),
            ("s3://key:secret?more@bucket", "a bucket name has"),
            ("key:secret@s3://bucket", "credentials never stand in a URI"),
            ("key:secret@bucket", "must look like"),
            ("bucket?secret_key=secret", "must look like"),
            ("ftp://x/y?password=secret", "not a kind of ledger"),
            ("file:///a/../b?token=secret", "'..'"),
            ("s3://bucket/a//b", "'//'"),
            ("dynamo://us-east-1", "3 to 250"),
            ("dynamo:///sacker", "dynamo://<region>/<prefix>"),
            ("dynamo://us-east-1/sacker-tags", "'-tags'"),
            ("file://relative/path", "absolute path"),
            ("file:///a/../b", "'..'"),
            ("file:///a#b", "'#'"),
            ("file:////", "not '/'"),
            ("file:///./", "not '/'"),
        ] {
            let error = text.parse::<LedgerUri>().expect_err(text).to_string();
            assert!(error.contains(rule), "{text}: {error}");
            assert!(!error.replace("'secret_key'", "").contains("secret"), "{error}");
        }
    }
}
