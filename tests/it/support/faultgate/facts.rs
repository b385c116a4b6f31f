//! What a request is: read from its head, and for DynamoDB from its body. Pure.

use http::request::Parts;
use serde_json::Value;

/// Whose words are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Dynamo,
    S3,
    Kubernetes,
}

/// What rules and the log know of a request.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) dialect: Dialect,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: http::HeaderMap,
    /// `PutItem`, `PutObject`, `watch`.
    pub(crate) operation: String,
    /// What it is about: the path, or for DynamoDB the table and the values of the key.
    pub(crate) key: String,
    /// The access key id, where the request is signed.
    pub(crate) access_key: String,
    pub(crate) user_agent: String,
    /// A read whose answer may be old: not a consistent read of DynamoDB, not a write.
    pub(crate) may_be_stale: bool,
    pub(crate) is_watch: bool,
    /// The same for the same request in another run: ids and times are left out.
    pub(crate) fingerprint: u64,
}

impl Facts {
    /// `body` is what DynamoDB's operations are in; others need none.
    pub(crate) fn of(parts: &Parts, body: Option<&[u8]>) -> Self {
        let header = |name: &str| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let method = parts.method.as_str().to_owned();
        let target = header("x-amz-target");
        let authorization = header("authorization");
        let dialect = if !target.is_empty() {
            Dialect::Dynamo
        } else if path.starts_with("/api/") || path.starts_with("/apis/") {
            Dialect::Kubernetes
        } else {
            Dialect::S3
        };
        let is_read = matches!(method.as_str(), "GET" | "HEAD");
        let is_watch = dialect == Dialect::Kubernetes && is_read && parameter(&query, "watch").is_some();
        let mut key = path.clone();
        let mut may_be_stale = is_read;
        let operation = match dialect {
            Dialect::Dynamo => {
                let words: Value = serde_json::from_slice(body.unwrap_or_default()).unwrap_or_default();
                key = dynamo_key(&words);
                let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
                may_be_stale = matches!(operation.as_str(), "GetItem" | "Query" | "Scan" | "BatchGetItem")
                    && !is_consistent(&words);
                operation
            }
            Dialect::S3 => {
                s3_operation(&method, &path, &query, parts.headers.contains_key("x-amz-copy-source"))
            }
            Dialect::Kubernetes if is_watch => "watch".to_owned(),
            Dialect::Kubernetes => method.to_ascii_lowercase(),
        };
        let conditions = [header("if-match"), header("if-none-match")].join(" ");
        let body = String::from_utf8_lossy(body.unwrap_or_default()).into_owned();
        let steady =
            [&method, &path, &query, &target, &conditions, &body].map(|text| steady(text)).join("\n");
        Self {
            dialect,
            method,
            path,
            query,
            operation,
            key,
            access_key: access_key(&authorization),
            user_agent: header("user-agent"),
            may_be_stale,
            is_watch,
            fingerprint: hash(steady.as_bytes()),
            headers: parts.headers.clone(),
        }
    }
}

/// FNV-1a, mixed: the same in every build.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The value of a parameter of a query string, as it stands there.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn access_key(authorization: &str) -> String {
    let credential = authorization.split_once("Credential=").map(|(_, rest)| rest);
    credential.and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned()
}

/// `text` with `#` for each UUID, time, and number of 13 digits or more: what differs from run to run.
pub(crate) fn steady(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut steady = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
        let starts = at == 0 || !is_word(&bytes[at - 1]);
        let volatile = if starts { volatile(&bytes[at..]) } else { 0 };
        if volatile > 0 {
            steady.push('#');
            at += volatile;
        } else {
            let rest = &text[at..];
            let next = rest.chars().next().expect("there is more");
            steady.push(next);
            at += next.len_utf8();
        }
    }
    steady
}

/// How long the id or time is that `bytes` start with; 0 where there is none.
fn volatile(bytes: &[u8]) -> usize {
    let fits = |pattern: &[u8]| {
        bytes.len() >= pattern.len()
            && pattern.iter().zip(bytes).all(|(want, byte)| match want {
                b'x' => byte.is_ascii_hexdigit(),
                b'9' => byte.is_ascii_digit(),
                other => other == byte,
            })
    };
    let run = |is: fn(&u8) -> bool| bytes.iter().take_while(|byte| is(byte)).count();
    let (digits, word) = (run(u8::is_ascii_digit), run(u8::is_ascii_alphanumeric));
    if fits(b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
        36
    } else if fits(b"9999-99-99T99:99:99") {
        19 + bytes[19..].iter().take_while(|byte| byte.is_ascii_digit() || b".Z".contains(byte)).count()
    } else if word == 32 && fits(&[b'x'; 32]) {
        32
    } else if digits >= 13 && digits == word {
        digits
    } else {
        0
    }
}

fn is_consistent(words: &Value) -> bool {
    match words {
        Value::Object(fields) => {
            fields.get("ConsistentRead").and_then(Value::as_bool) == Some(true)
                || fields.get("RequestItems").is_some_and(|tables| {
                    tables.as_object().is_some_and(|tables| tables.values().all(is_consistent))
                })
        }
        _ => false,
    }
}

/// The table and the values of the first key in a request: `packages frontend 3`.
fn dynamo_key(words: &Value) -> String {
    const KEYS: [&str; 3] = ["package_name", "tag", "version"];
    let mut found = Vec::new();
    let mut open = vec![words];
    while let Some(value) = open.pop() {
        let Value::Object(fields) = value else {
            open.extend(value.as_array().into_iter().flatten());
            continue;
        };
        if found.is_empty() {
            found.extend(fields.get("TableName").and_then(Value::as_str).map(str::to_owned));
        }
        let key = fields.get("Key").or_else(|| fields.get("Item"));
        let named = |name: &&str| key.and_then(|key| key.get(*name));
        let mut values: Vec<&Value> = KEYS.iter().filter_map(named).collect();
        let queried = fields.get("ExpressionAttributeValues").and_then(Value::as_object);
        if values.is_empty() && key.is_none() {
            values.extend(queried.into_iter().flat_map(serde_json::Map::values));
        }
        let texts = values.iter().filter_map(|value| value.get("S").or(value.get("N"))?.as_str());
        let texts: Vec<String> = texts.map(str::to_owned).collect();
        if !texts.is_empty() {
            found.extend(texts);
            break;
        }
        open.extend(fields.values());
    }
    found.join(" ")
}

/// The SDK names it in `x-id`; else method, path and query tell.
fn s3_operation(method: &str, path: &str, query: &str, is_copy: bool) -> String {
    let named = parameter(query, "x-id").filter(|name| !name.is_empty());
    if let Some(name) = named {
        return name.to_owned();
    }
    let has = |name| parameter(query, name).is_some();
    let in_bucket = path.trim_matches('/').contains('/');
    let sub =
        ["versioning", "policy", "lifecycle", "location", "acl", "tagging", "object-lock", "encryption"];
    if let Some(sub) = sub.iter().find(|sub| has(sub)) {
        return format!("{method} {sub}");
    }
    let name = match (method, in_bucket) {
        ("PUT", true) if has("partNumber") => "UploadPart",
        ("PUT", true) if is_copy => "CopyObject",
        ("PUT", true) => "PutObject",
        ("GET", true) if has("uploadId") => "ListParts",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", true) => "DeleteObject",
        ("POST", true) if has("uploads") => "CreateMultipartUpload",
        ("POST", true) if has("uploadId") => "CompleteMultipartUpload",
        ("POST", false) if has("delete") => "DeleteObjects",
        ("GET", false) if has("uploads") => "ListMultipartUploads",
        ("GET", false) if has("versions") => "ListObjectVersions",
        ("GET", false) if path.trim_matches('/').is_empty() => "ListBuckets",
        ("GET", false) if has("list-type") => "ListObjectsV2",
        ("GET", false) => "ListObjects",
        ("PUT", false) => "CreateBucket",
        ("HEAD", false) => "HeadBucket",
        ("DELETE", false) => "DeleteBucket",
        _ => method,
    };
    name.to_owned()
}
