//! What AWS says when it refuses, in its own words: who may not do what on which, and where the right region is. Pure.

/// A refusal that names what was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal<'m> {
    /// The IAM action, which need not be the one that was asked for: the key of an encrypted bucket has actions of its own.
    pub(super) action: &'m str,
    /// The ARN that it was refused on, where it is named.
    pub(super) resource: Option<&'m str>,
    /// The ARN of who asked.
    caller: Option<&'m str>,
    /// A policy forbids it, which no other policy can take back.
    is_forbidden: bool,
}

/// Reads `User: <arn> is not authorized to perform: <action> on resource: <arn> because ...`.
pub(super) fn refusal(message: &str) -> Option<Refusal<'_>> {
    let (before, after) = message.split_once("is not authorized to perform: ")?;
    let action = after.split_whitespace().next().map(|word| word.trim_end_matches(['.', ',']))?;
    let is_name = |part: &str, extra: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    let (service, name) = action.split_once(':')?;
    if !is_name(service, b"-") || !is_name(name, b"*") {
        return None;
    }
    let resource = after.split_once("on resource: ").and_then(|(_, rest)| arn(rest));
    let caller = before.split_once("User: ").and_then(|(_, rest)| arn(rest));
    Some(Refusal { action, resource, caller, is_forbidden: after.contains("explicit deny") })
}

/// The ARN at the beginning of `text`, perhaps in quotes.
fn arn(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?.trim_matches(['"', '.', ',']);
    (word.starts_with("arn:") && word.len() <= 300 && !word.chars().any(char::is_control)).then_some(word)
}

impl Refusal<'_> {
    /// Whether it is about the key of an encryption.
    fn is_of_key(&self) -> bool {
        self.action.starts_with("kms:")
    }

    /// What to do about it; `place` stands in where AWS does not name what it was refused on.
    pub(super) fn hint(&self, place: &str) -> String {
        let (action, resource) = (self.action, self.resource.unwrap_or(place));
        let who = self.caller.map(|caller| format!(" to {caller}")).unwrap_or_default();
        if self.is_forbidden {
            return format!(
                "a policy denies {action} on {resource}{who}, whatever others grant: change that policy"
            );
        }
        let key =
            if self.is_of_key() { ", in the policy of the key, too: it encrypts what is stored" } else { "" };
        format!("grant {action} on {resource}{who}{key}")
    }
}

/// The region that S3 says is the right one, in a message (`... expecting 'eu-west-1'`) or in the body of an answer
/// (`<Region>`, or the host in `<Endpoint>`).
pub(super) fn right_region<'a>(message: &'a str, body: &'a str) -> Option<&'a str> {
    let quoted = || message.split_once("expecting '")?.1.split_once('\'').map(|(region, _)| region);
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text)
    };
    // `bucket.s3.eu-west-1.amazonaws.com`, or `bucket.s3-eu-west-1.amazonaws.com`
    let host = || {
        let (_, rest) = element("Endpoint")?.split_once(".s3")?;
        rest.get(1..)?.split_once(".amazonaws.com").map(|(region, _)| region)
    };
    let is_region = |text: &&str| {
        text.contains('-') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    element("Region").or_else(quoted).filter(is_region).or_else(|| host().filter(is_region))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As S3, DynamoDB and STS say it.
    #[test]
    fn refusals_are_read() {
        let message = "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: s3:PutObject on \
                       resource: \"arn:aws:s3:::blobs/0123\" because no identity-based policy allows the \
                       s3:PutObject action";
        let found = refusal(message).expect("a refusal");
        assert_eq!((found.action, found.resource), ("s3:PutObject", Some("arn:aws:s3:::blobs/0123")));
        assert_eq!(
            found.hint("bucket 'blobs'"),
            "grant s3:PutObject on arn:aws:s3:::blobs/0123 to arn:aws:iam::123456789012:user/ann"
        );
        let message = "User: arn:aws:sts::123456789012:assumed-role/ci/job is not authorized to perform: \
                       dynamodb:Query on resource: arn:aws:dynamodb:us-east-1:123456789012:table/sacker with an \
                       explicit deny in a resource-based policy";
        assert_eq!(
            refusal(message).expect("a refusal").hint("table 'sacker'"),
            "a policy denies dynamodb:Query on arn:aws:dynamodb:us-east-1:123456789012:table/sacker to \
             arn:aws:sts::123456789012:assumed-role/ci/job, whatever others grant: change that policy"
        );
        let message = "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: kms:GenerateDataKey \
                       on resource: arn:aws:kms:eu-west-1:123456789012:key/1b because no identity-based policy \
                       allows the kms:GenerateDataKey action";
        assert_eq!(
            refusal(message).expect("a refusal").hint("bucket 'blobs'"),
            "grant kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/1b to \
             arn:aws:iam::123456789012:user/ann, in the policy of the key, too: it encrypts what is stored"
        );
        let message = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt on the resource \
                       associated with this ciphertext because the resource does not exist in this Region";
        assert_eq!(refusal(message).expect("a refusal").resource, None);
    }

    #[test]
    fn other_messages_are_none() {
        for message in [
            "Access Denied",
            "",
            "User: arn:aws:iam::000000000000:user/test is not authorized to perform this action",
            "is not authorized to perform: <script> on resource: x",
            "is not authorized to perform: ",
        ] {
            assert_eq!(refusal(message), None, "{message}");
        }
    }

    #[test]
    fn the_right_region_is_found_where_it_stands() {
        let message =
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        assert_eq!(right_region(message, ""), Some("eu-west-1"));
        assert_eq!(right_region("", "<Error><Region>ap-south-1</Region></Error>"), Some("ap-south-1"));
        let body = "<Error><Endpoint>blobs.s3.eu-north-1.amazonaws.com</Endpoint></Error>";
        assert_eq!(right_region("", body), Some("eu-north-1"));
        let body = "<Error><Endpoint>blobs.s3-us-west-2.amazonaws.com</Endpoint></Error>";
        assert_eq!(right_region("", body), Some("us-west-2"));
        for body in ["<Endpoint>blobs.s3.amazonaws.com</Endpoint>", "<Region>&lt;</Region>", "<Region>"] {
            assert_eq!(right_region("the Credential is mal-formed", body), None, "{body}");
        }
    }
}
