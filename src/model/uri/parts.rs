//! A URI cut into its parts, and what all kinds of URIs share. Messages never show what may be a credential.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::error::{Error, Result};

/// A URI cut into its parts, before any meaning.
pub(super) struct Parts<'a> {
    text: &'a str,
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    query: Vec<(String, String)>,
}

impl<'a> Parts<'a> {
    pub(super) fn cut(text: &'a str) -> Result<Self> {
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
        // The user that ssh logs in as is no secret; its password would be.
        let is_user = scheme == "git+ssh"
            && authority
                .split_once('@')
                .is_some_and(|(user, host)| !user.contains(':') && !host.contains('@'));
        if scheme.contains('@') || authority.contains('@') && !is_user {
            return Err(broken("credentials never stand in a URI; use the standard settings of the backend"));
        }
        let query = url::form_urlencoded::parse(query.as_bytes())
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        Ok(Self { text, scheme, authority, path, query })
    }

    pub(super) fn broken(&self, rule: impl fmt::Display) -> Error {
        Error::invalid(format!("'{}' is not allowed: {rule}", redacted(self.text)))
    }

    /// Takes the parameter `key`; what is left in the end is refused.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let position = self.query.iter().position(|(name, _)| name == key)?;
        Some(self.query.remove(position).1)
    }

    pub(super) fn take_flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(self.broken(format_args!("{key} is 'true' or 'false'"))),
        }
    }

    pub(super) fn take_endpoint(&mut self) -> Result<Option<String>> {
        let Some(endpoint) = self.take("endpoint") else { return Ok(None) };
        let parsed = url::Url::parse(&endpoint).map_err(|_| self.broken("endpoint is not an http(s) URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(self.broken("endpoint is not an http(s) URL"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(self.broken("credentials never stand in an endpoint; use the standard AWS settings"));
        }
        if parsed.host().is_some_and(|host| is_link_local_host(&host)) {
            return Err(
                self.broken("endpoint is a link-local address, where clouds keep machine credentials")
            );
        }
        Ok(Some(endpoint.trim_end_matches('/').to_owned()))
    }

    /// The components of the path, in one spelling: open ledgers and stores are kept by their URI.
    pub(super) fn components(&self) -> Result<Vec<&'a str>> {
        let parts = self.path.split('/').filter(|part| !part.is_empty() && *part != ".");
        let components: Vec<&str> = parts.collect();
        if components.contains(&"..") {
            return Err(self.broken("the path must not contain '..'"));
        }
        if components.is_empty() {
            return Err(self.broken("it must name a directory of its own, not '/'"));
        }
        Ok(components)
    }

    /// `host[:port]` as it may be connected to.
    pub(super) fn host(&self, text: &str, default_port: Option<u16>) -> Result<String> {
        let rule = "a server is '<host>' or '<host>:<port>'";
        let (name, port) = match text.rfind(':').filter(|colon| !text[*colon..].contains(']')) {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        if !name.bytes().all(is_plain) || name.starts_with('-') {
            return Err(self.broken(rule));
        }
        let host: url::Host<String> = url::Host::parse(name).map_err(|_| self.broken(rule))?;
        if is_link_local_host(&host) {
            return Err(self.broken("it is a link-local address, where clouds keep machine credentials"));
        }
        let port = match port {
            Some(port) => Some(port.parse::<u16>().map_err(|_| self.broken(rule))?),
            None => default_port,
        };
        Ok(port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}")))
    }

    pub(super) fn finish<T>(self, value: T, known: &str) -> Result<T> {
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

/// Names under which clouds offer machine credentials at such an address.
const METADATA_NAMES: [&str; 4] =
    ["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"];

fn is_link_local_host<S: AsRef<str>>(host: &url::Host<S>) -> bool {
    match host {
        url::Host::Ipv4(address) => is_link_local((*address).into()),
        url::Host::Ipv6(address) => is_link_local((*address).into()),
        url::Host::Domain(name) => {
            let name = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
            METADATA_NAMES.contains(&name.as_str())
        }
    }
}

/// Whether clouds keep machine credentials at addresses like this one: no endpoint may be there.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            // An IPv4 address inside an IPv6 one: `::a.b.c.d`, `::ffff:a.b.c.d`, and NAT64's `64:ff9b::a.b.c.d`.
            let bits = address.to_bits();
            let carries_ipv4 = matches!(bits >> 32, 0 | 0xffff) || bits >> 32 == 0x0064_ff9b << 64;
            let last = std::net::Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or_default());
            // fd00:ec2::/32 is where EC2 has its metadata service, and EKS its agent for pods.
            let is_ec2 = bits >> 96 == 0xfd00_0ec2;
            address.is_unicast_link_local() || is_ec2 || (carries_ipv4 && last.is_link_local())
        }
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

/// The shortest grace: S3 tells ages in whole seconds, so nothing shorter can be compared. Below an hour is for tests only.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// What a URI is for: some parameters belong to one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Ledger,
    Store,
}

/// The parameter `grace` of a store.
pub(super) fn grace(parts: &mut Parts<'_>, purpose: Use) -> Result<Option<Duration>> {
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

pub(super) fn shown_grace(grace: Option<Duration>) -> Option<String> {
    grace.map(|grace| {
        jiff::SignedDuration::try_from(grace).map_or_else(|_| String::new(), |span| format!("{span:#}"))
    })
}

/// Writes `?key=value&...` for the parameters that are set.
pub(super) fn write_query(f: &mut fmt::Formatter<'_>, pairs: &[(&str, Option<&str>)]) -> fmt::Result {
    let mut separator = '?';
    for (key, value) in pairs.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        // A query may have these as they are (RFC 3986, 3.4), and an endpoint is to be read by people.
        let readable = encoded.replace("%3A", ":").replace("%2F", "/");
        write!(f, "{separator}{key}={readable}")?;
        separator = '&';
    }
    Ok(())
}
