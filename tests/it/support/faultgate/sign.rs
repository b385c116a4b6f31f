//! Signs a changed request anew (AWS Signature Version 4), as the client would have signed it: for servers that verify.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest as _, Sha256};

/// Replaces the signature of `parts` by one over what is left of the signed headers. `secret` gives the secret of an
/// access key id. A request without a signature stays as it is; `Err` names the access key that no secret is known for.
pub(crate) fn sign(parts: &mut Parts, secret: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let Some(old) = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    let Some((algorithm, fields)) = old.split_once(' ').filter(|(name, _)| *name == "AWS4-HMAC-SHA256")
    else {
        return Ok(());
    };
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
    };
    let (credential, signed) = (field("Credential").to_owned(), field("SignedHeaders").to_owned());
    let (access_key, scope) = credential.split_once('/').unwrap_or((&credential, ""));
    let secret = secret(access_key).ok_or_else(|| access_key.to_owned())?;

    let header = |name: &str| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.map(str::trim).collect::<Vec<_>>().join(",")
    };
    let signed: Vec<&str> = signed.split(';').filter(|name| parts.headers.contains_key(*name)).collect();
    let mut pairs: Vec<String> = parts.uri.query().unwrap_or_default().split('&').map(with_equals).collect();
    pairs.sort();
    let mut canonical = format!("{}\n{}\n{}\n", parts.method, parts.uri.path(), pairs.join("&"));
    for name in &signed {
        let line = [name, ":", &header(name), "\n"].concat();
        canonical.push_str(&line);
    }
    let end = ["\n", &signed.join(";"), "\n", &header("x-amz-content-sha256")].concat();
    canonical.push_str(&end);

    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let message = format!("{algorithm}\n{}\n{scope}\n{digest}", header("x-amz-date"));
    let key = scope
        .split('/')
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex::encode(hmac(&key, message.as_bytes()));
    let signed = signed.join(";");
    let new = format!("{algorithm} Credential={credential}, SignedHeaders={signed}, Signature={signature}");
    if let Ok(new) = HeaderValue::try_from(new) {
        parts.headers.insert(AUTHORIZATION, new);
    }
    Ok(())
}

fn with_equals(pair: &str) -> String {
    if pair.is_empty() || pair.contains('=') { pair.to_owned() } else { format!("{pair}=") }
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}
