//! What a rule says: which requests it means, and what happens to them. Written in tests, or read from YAML.
//!
//! Not here: how a rule is drawn (`decide`), and how an action is carried out (`exchange`, `reply`).

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::refusal::Refusal;

/// One line of the gate's plan.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default, rename = "match")]
    pub(crate) matches: Match,
    pub(crate) action: Action,
}

impl Rule {
    pub(crate) fn new(matches: Match, action: Action) -> Self {
        Self { matches, action }
    }

    /// This rule, at most so many times.
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.matches.times = Some(times);
        self
    }
}

/// Which requests a rule means: all that is given must hold. The default means every request.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    /// `PUT`.
    pub(crate) method: Option<String>,
    /// A pattern for the whole path: `*` within one component, `**` across components.
    pub(crate) path: Option<String>,
    /// A pattern for the whole query string, as `path` is for the path.
    pub(crate) query: Option<String>,
    /// The operation: what `X-Amz-Target` ends with (`PutItem`), the operation of S3 (`PutObject`), or of the API
    /// server (`watch`, `list`, `get`, ...).
    pub(crate) target: Option<String>,
    /// A header and a pattern for its value.
    pub(crate) header: Option<(String, String)>,
    /// An access key id, or a part of a user agent.
    pub(crate) identity: Option<String>,
    /// Only the n-th request that the rest of this means, from 1.
    pub(crate) nth: Option<u64>,
    /// The share of requests, 0 to 1.
    pub(crate) probability: f64,
    /// At most so many times.
    pub(crate) times: Option<u64>,
    /// Only from and until so long after the rules were set.
    #[serde(deserialize_with = "window")]
    pub(crate) window: Option<(Duration, Duration)>,
}

impl Default for Match {
    fn default() -> Self {
        Self {
            method: None,
            path: None,
            query: None,
            target: None,
            header: None,
            identity: None,
            nth: None,
            probability: 1.0,
            times: None,
            window: None,
        }
    }
}

impl Match {
    /// Every request of this operation.
    pub(crate) fn target(operation: &str) -> Self {
        Self { target: Some(operation.to_owned()), ..Self::default() }
    }

    /// Every request with this method.
    pub(crate) fn method(method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..Self::default() }
    }

    /// Every request for a path that fits this pattern.
    pub(crate) fn path(pattern: &str) -> Self {
        Self { path: Some(pattern.to_owned()), ..Self::default() }
    }

    /// The same for this share of the requests only.
    pub(crate) fn share(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// What happens to a request or to its reply. Positions count the bytes of the reply's body.
///
/// Those that only change (`Delay`, `Hold`, `Throttle`, `Damage`, `Strip`, `ConditionOn`, `AcceptAbsentIfMatch`, `RewriteDate`) let
/// the rules after them speak, too; the first other one that applies is the last one.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// The request is not forwarded; the server's own words of refusal come back.
    Status(Refusal),
    /// The request is not forwarded; this status and body come back.
    Answer(u16, String),
    /// The request is not forwarded, the connection is closed.
    DropBefore,
    /// The request is carried out, its reply is read and logged, the connection is closed.
    DropReply,
    /// The request is carried out, its reply is read and logged, and nothing comes back on the open connection.
    Swallow,
    /// The request is forwarded so much later, also when its client has gone.
    Delay(#[serde(deserialize_with = "duration")] Duration),
    /// The request is parked until `Gate::release`, also when its client has gone.
    Hold,
    /// The request is carried out twice; the first reply comes back.
    Duplicate,
    /// The reply's connection is closed after so many bytes.
    Truncate(u64),
    /// The reply's connection is closed before its last byte.
    Cut,
    /// The reply's `Content-Length` is wrong by so much.
    Length(i64),
    /// One bit of this byte of the reply is another.
    Flip(u64),
    /// The reply has this body instead of its own.
    Swap(#[serde(deserialize_with = "text")] Bytes),
    /// So many bytes a second, for the request's body and the reply's.
    Throttle(u64),
    /// One bit of this byte of the request's body is another when it arrives.
    Damage(u64),
    /// Nothing more after so many bytes of the reply; the connection stays open.
    Stall(u64),
    /// The connection is reset (RST) after so many bytes of the reply.
    Reset(u64),
    /// The request is not forwarded, and nothing comes back on the open connection.
    Blackhole,
    /// A read that did not ask for consistency is answered from an earlier reply that is not older than this. What a
    /// watch says comes so much later.
    Stale(#[serde(deserialize_with = "duration")] Duration),
    /// The server does not heed conditions: `If-Match` and `If-None-Match` are removed.
    ConditionOn,
    /// A header of the request is removed.
    Strip(String),
    /// A PUT with `If-Match` on an absent key is carried out.
    AcceptAbsentIfMatch,
    /// The server's clock is wrong.
    RewriteDate(ServerDate),
    /// The client is sent to this address (`http://host:port`) with 301, 302, 307 or 308; path and query stay.
    Redirect(u16, String),
    /// The server finds the request's signature, or the credentials, too old.
    SignatureExpired,
}

/// What a reply's `Date` becomes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerDate {
    /// Always this one, whatever the format.
    Fixed(String),
    /// So many seconds later than the server says; negative for earlier.
    Offset(i64),
}

impl Action {
    /// The name in logs and counts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Answer(..) => "answer",
            Self::DropBefore => "drop_before",
            Self::DropReply => "drop_reply",
            Self::Swallow => "swallow",
            Self::Delay(_) => "delay",
            Self::Hold => "hold",
            Self::Duplicate => "duplicate",
            Self::Truncate(_) => "truncate",
            Self::Cut => "cut",
            Self::Length(_) => "length",
            Self::Flip(_) => "flip",
            Self::Swap(_) => "swap",
            Self::Throttle(_) => "throttle",
            Self::Damage(_) => "damage",
            Self::Stall(_) => "stall",
            Self::Reset(_) => "reset",
            Self::Blackhole => "blackhole",
            Self::Stale(_) => "stale",
            Self::ConditionOn => "condition_on",
            Self::Strip(_) => "strip",
            Self::AcceptAbsentIfMatch => "accept_absent_if_match",
            Self::RewriteDate(_) => "rewrite_date",
            Self::Redirect(..) => "redirect",
            Self::SignatureExpired => "signature_expired",
        }
    }

    /// Whether the rules after this one speak, too.
    pub(crate) fn only_changes(&self) -> bool {
        matches!(
            self,
            Self::Delay(_)
                | Self::Hold
                | Self::Throttle(_)
                | Self::Damage(_)
                | Self::Strip(_)
                | Self::ConditionOn
                | Self::AcceptAbsentIfMatch
                | Self::RewriteDate(_)
        )
    }
}

/// `200ms`, `1m 30s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let signed = jiff::SignedDuration::deserialize(deserializer)?;
    Duration::try_from(signed).map_err(serde::de::Error::custom)
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(Duration, Duration)>, D::Error> {
    #[derive(Deserialize)]
    struct Span(#[serde(deserialize_with = "duration")] Duration);
    let window: Option<(Span, Span)> = Option::deserialize(deserializer)?;
    Ok(window.map(|(from, until)| (from.0, until.0)))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    Ok(Bytes::from(String::deserialize(deserializer)?))
}
