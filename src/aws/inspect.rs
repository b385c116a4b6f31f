//! Whose credentials are in force, and in which region: for `sacker doctor`.

use aws_config::Region;
use aws_credential_types::provider::error::CredentialsError;
use jiff::{SignedDuration, Timestamp};

use super::credentials::Found;
use super::error::{credentials_failure, innermost};
use crate::connect::Connect;
use crate::environment::Environment;
use crate::inspection::Finding;

const CHECK: &str = "credentials";

/// So many letters of an access key id are shown, the last ones: enough to tell keys apart.
const SHOWN: usize = 4;

/// What gives the credentials, until when, and the region. Asks whoever gives them, as the first request would.
pub(crate) async fn credentials(connect: &Connect, region: Option<&Region>) -> Finding {
    let region = region.cloned().unwrap_or_else(|| Region::from_static(super::REGION_OF_CUSTOM_ENDPOINTS));
    match connect.session.look(connect, &region).await {
        Err(error) => Finding::unknown(CHECK, &error),
        Ok(Err(error)) => none(&error),
        Ok(Ok(found)) => told(&found, &region, connect.clock.now(), &connect.environment),
    }
}

fn none(error: &CredentialsError) -> Finding {
    match credentials_failure(error) {
        Some(failure) => {
            let finding = Finding::odd(CHECK, format!("there are none: {}", failure.text));
            Finding { hint: failure.hint.clone(), ..finding }
        }
        None => Finding::odd(CHECK, format!("there are none: {}", innermost(error))),
    }
}

fn told(found: &Found, region: &Region, now: Timestamp, environment: &Environment) -> Finding {
    let end = found.credentials.expiry().and_then(|end| Timestamp::try_from(end).ok()).or_else(|| {
        // What `aws configure export-credentials` says beside keys in variables.
        let told = environment.get("AWS_CREDENTIAL_EXPIRATION").filter(|_| found.is_of_environment());
        told.and_then(|text| text.parse().ok())
    });
    let key = shown(found.credentials.access_key_id());
    let is_temporary = found.credentials.session_token().is_some_and(|token| !token.is_empty());
    let until = match end {
        Some(end) if end <= now => format!("they expired at {end:.0}"),
        Some(end) => format!("they expire at {end:.0}, in {}", rest(end.duration_since(now))),
        None if is_temporary => "they are temporary, and nobody says until when".to_owned(),
        None => "they do not expire".to_owned(),
    };
    let text = format!("from {}, access key {key}; {until}; region {region}", found.source);
    if end.is_some_and(|end| end <= now) {
        return Finding::odd(CHECK, text)
            .with_hint("get new ones, or unset the variables that hold the old ones");
    }
    Finding::fine(CHECK, text)
}

/// The end of an access key id, which is no secret, and not all of it, which is nobody's business.
fn shown(key: &str) -> String {
    let count = key.chars().count();
    // Of a short one so few that the rest cannot be guessed.
    let last: String = key.chars().skip(count - SHOWN.min(count / 2)).collect();
    format!("…{last}")
}

/// How long that is, in the largest units that say something.
fn rest(time: SignedDuration) -> String {
    let minutes = time.as_mins();
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{} s", time.as_secs()),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) if hours < 48 => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspection::Level;

    fn connect(pairs: &[(&str, &str)]) -> Connect {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Connect { instance_metadata: false, environment, ..Connect::default() }
    }

    async fn found(pairs: &[(&str, &str)]) -> Finding {
        credentials(&connect(pairs), Some(&Region::from_static("eu-west-1"))).await
    }

    const KEYS: [(&str, &str); 2] =
        [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "a-secret")];

    #[tokio::test]
    async fn keys_of_the_environment_are_told_without_the_secret() {
        let finding = found(&KEYS).await;
        assert_eq!(finding.level, Level::Fine);
        assert_eq!(
            finding.text,
            "from the environment (AWS_ACCESS_KEY_ID), access key …MPLE; they do not expire; region eu-west-1"
        );
        let mut with_token = KEYS.to_vec();
        with_token.push(("AWS_SESSION_TOKEN", "a-token"));
        let finding = found(&with_token).await;
        assert!(finding.text.contains("temporary, and nobody says until when"), "{finding:?}");
        with_token.push(("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"));
        let finding = found(&with_token).await;
        assert_eq!(finding.level, Level::Odd);
        assert!(finding.text.contains("they expired at 2020-01-01T00:00:00Z"), "{finding:?}");
        assert!(!format!("{finding:?}").contains("a-"), "{finding:?}");
    }

    #[tokio::test]
    async fn a_profile_is_told_by_its_name_and_asked_once() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let file = home.path().join("credentials");
        std::fs::write(&file, "[work]\naws_access_key_id = ASIA1234\naws_secret_access_key = s\n")
            .expect("written");
        let pairs = [
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("UTF-8")),
            ("AWS_CONFIG_FILE", "/nowhere"),
            ("AWS_PROFILE", "work"),
        ];
        let connect = connect(&pairs);
        let region = Region::from_static("eu-west-1");
        let finding = credentials(&connect, Some(&region)).await;
        let start = "from the profile 'work', access key …1234; ";
        assert!(finding.level == Level::Fine && finding.text.starts_with(start), "{finding:?}");
        // What was found goes to the first request, and is still what is told.
        std::fs::write(&file, "").expect("written");
        assert_eq!(credentials(&connect, Some(&region)).await, finding);
    }

    #[tokio::test]
    async fn a_session_that_is_over_says_what_to_type() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let file = home.path().join("config");
        // No home directory has a session with an address like this one.
        let address = format!("https://{}.awsapps.com/start", uuid::Uuid::new_v4());
        let text = format!(
            "[profile work]\nsso_start_url = {address}\nsso_region = us-east-1\nsso_account_id = 123456789012\n\
             sso_role_name = reader\n"
        );
        std::fs::write(&file, text).expect("written");
        let pairs = [("AWS_CONFIG_FILE", file.to_str().expect("UTF-8")), ("AWS_PROFILE", "work")];
        let finding = found(&pairs).await;
        assert_eq!(finding.text, "there are none: the profile 'work' has no SSO session, or it is over");
        assert_eq!(finding.hint.as_deref(), Some("log in again with: aws sso login --profile work"));
    }

    #[test]
    fn what_is_left_is_told_in_units_that_say_something() {
        for (seconds, text) in [(5, "5 s"), (61, "1 min"), (3 * 3600 + 120, "3 h 2 min"), (200_000, "2 days")]
        {
            assert_eq!(rest(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn of_an_access_key_little_is_shown() {
        for (key, text) in [("AKIAIOSFODNN7EXAMPLE", "…MPLE"), ("testbed", "…bed"), ("k", "…"), ("", "…")]
        {
            assert_eq!(shown(key), text);
        }
    }
}
