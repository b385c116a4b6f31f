//! URLs of blobs in S3 that carry a signature: whoever has one may fetch that blob until it expires.

use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;

use super::s3::S3Store;
use crate::aws::bucket::Operation;
use crate::error::{Error, Result};
use crate::model::{Sha256, check_basename};

const SIGN: Operation = Operation { words: "sign a URL of the blob", action: "s3:GetObject" };

/// See [`super::Store::presign`].
pub(super) async fn url(
    store: &S3Store,
    sha256: &Sha256,
    expires: Duration,
    filename: &str,
) -> Result<String> {
    let limits = PresigningConfig::expires_in(expires)
        .map_err(|error| Error::invalid("a signed URL cannot be valid that long").with_source(error))?;
    let key = sha256.to_string();
    let bucket = &store.bucket;
    let request = bucket.client.get_object().bucket(&bucket.name).key(bucket.key(&key));
    // The name is somebody's input: one that is no harmless file name is left out.
    let named = check_basename(filename).is_ok().then(|| disposition(filename));
    match request.set_response_content_disposition(named).presigned(limits).await {
        Ok(signed) => Ok(signed.uri().to_owned()),
        Err(error) => Err(bucket.error(SIGN, &key, &error)),
    }
}

/// The value of `Content-Disposition` for a file of this name (RFC 6266, with the encoding of RFC 8187).
fn disposition(filename: &str) -> String {
    let mut value = "attachment; filename*=UTF-8''".to_owned();
    for byte in filename.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_encoded() {
        assert_eq!(disposition("app-1.2.jar"), "attachment; filename*=UTF-8''app-1.2.jar");
        assert_eq!(disposition("a b\"ü;"), "attachment; filename*=UTF-8''a%20b%22%C3%BC%3B");
    }
}
