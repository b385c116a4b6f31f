//! When a profile's session of the single sign-on is over: how that is told, and what to type then.

use std::error::Error;

/// What the SDK says when there is no session, it is over, or the service does not know it. Its types are not public.
const SIGNS: &[&str] = &["SSO token", ".aws/sso/cache", "UnauthorizedException"];

/// Whether an error of a profile is about its SSO session. No error of another kind of profile has these words.
pub(super) fn is_over(error: &(dyn Error + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        let text = error.to_string();
        if SIGNS.iter().any(|sign| text.contains(sign)) {
            return true;
        }
        link = error.source();
    }
    false
}

/// How to get a new session, to be typed into a shell.
pub(super) fn hint(profile: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@+=,".contains(&byte);
    if profile.bytes().all(is_plain) {
        format!("log in again with: aws sso login --profile {profile}")
    } else {
        format!("log in again with: aws sso login --profile '{}'", profile.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl std::fmt::Display for Link {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|link| link as _)
        }
    }

    #[test]
    fn a_session_that_is_over_is_recognised_anywhere_in_the_chain() {
        let outer =
            |text| Link("an error occurred while loading credentials", Some(Box::new(Link(text, None))));
        for text in [
            "the SSO token has expired and cannot be refreshed",
            "failed to load the cached SSO token",
            "failed to read `/home/ann/.aws/sso/cache/0123.json`",
            "UnauthorizedException: Session token not found or invalid",
        ] {
            assert!(is_over(&outer(text)), "{text}");
        }
        assert!(!is_over(&outer("profile `work` was not defined")));
        assert!(!is_over(&outer("AccessDenied: not authorized to perform sts:AssumeRole")));
    }

    #[test]
    fn the_hint_can_be_typed() {
        assert_eq!(hint("work"), "log in again with: aws sso login --profile work");
        assert_eq!(hint("it's"), r"log in again with: aws sso login --profile 'it'\''s'");
    }
}
