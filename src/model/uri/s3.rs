//! A ledger or a store in an S3 bucket.

use std::fmt;
use std::time::Duration;

use super::Numbering;
use super::parts::{Parts, Use, grace, shown_grace, write_query};
use crate::error::Result;

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
    /// Stores only: how long an unreferenced blob is left alone; see [`FileLocation::grace`](super::FileLocation).
    pub grace: Option<Duration>,
}

pub(super) fn parse(mut parts: Parts<'_>, purpose: Use) -> Result<S3Location> {
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
