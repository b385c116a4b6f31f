//! A ledger in two DynamoDB tables.

use std::fmt;

use super::parts::{Parts, write_query};
use crate::error::Result;

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

pub(super) fn parse(mut parts: Parts<'_>) -> Result<DynamoLocation> {
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

impl fmt::Display for DynamoLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamo://{}/{}", self.region, self.prefix)?;
        write_query(f, &[("endpoint", self.endpoint.as_deref())])
    }
}
