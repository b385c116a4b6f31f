//! Where AWS credentials come from, and what is said when there are none.
//!
//! One rule: what the environment names is used alone. A pod with a web identity never falls back to the node's role,
//! and nobody waits for an instance metadata service that is not there.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(deprecated, reason = "the SDK names no replacement outside its own runtime crates")]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::error::innermost;
use super::http;
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// To find out that nobody has credentials may take this long.
const NONE_BOUND: Duration = Duration::from_secs(2);

/// A provider that the environment names may take this long with its retries: it exists, it may be slow.
const NAMED_BOUND: Duration = Duration::from_secs(10);

/// A profile may start a program or open a session with a person.
const PROFILE_BOUND: Duration = Duration::from_mins(1);

/// What the AWS clients opened from one [`Connect`] share: each credential is loaded once, not once per client. Clones
/// are the same session.
#[derive(Clone, Default)]
pub struct Session(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    provider: Option<(Environment, bool, SharedCredentialsProvider)>,
    identities: Option<SharedIdentityCache>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// The credentials of `connect`. Makes no request. `region` is where a web identity is exchanged.
    pub(super) fn provider(&self, connect: &Connect, region: &Region) -> Result<SharedCredentialsProvider> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((environment, instance_metadata, provider)) = &shared.provider
            && *environment == connect.environment
            && *instance_metadata == connect.instance_metadata
        {
            return Ok(provider.clone());
        }
        let provider = choose(connect, region)?;
        shared.provider = Some((connect.environment.clone(), connect.instance_metadata, provider.clone()));
        Ok(provider)
    }

    pub(super) fn identities(&self) -> SharedIdentityCache {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Longer than any provider's own bound: the provider's error says more than the cache's.
        let build = || IdentityCache::lazy().load_timeout(PROFILE_BOUND * 2).build();
        shared.identities.get_or_insert_with(build).clone()
    }
}

/// Exactly the provider that the environment names; else profiles, and instance metadata if it is allowed.
fn choose(connect: &Connect, region: &Region) -> Result<SharedCredentialsProvider> {
    let environment = &connect.environment;
    match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
            let keys = Credentials::new(id, secret, token, None, "environment");
            return Ok(SharedCredentialsProvider::new(keys));
        }
        (None, None) => {}
        (id, _) => {
            let (there, absent) = if id.is_some() {
                ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            } else {
                ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
            };
            return Err(Error::invalid(format!("{there} is set without {absent}")));
        }
    }
    let config =
        ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(http::client());
    if let Some(token_file) = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let Some(role) = environment.get("AWS_ROLE_ARN") else {
            return Err(Error::invalid("AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN"));
        };
        let session = environment.get("AWS_ROLE_SESSION_NAME").unwrap_or("sacker");
        let identity = WebIdentityTokenCredentialsProvider::builder()
            .configure(&config)
            .static_configuration(StaticConfiguration {
                web_identity_token_file: token_file.into(),
                role_arn: role.to_owned(),
                session_name: session.to_owned(),
            })
            .build();
        let step = Step::new("the web identity (AWS_WEB_IDENTITY_TOKEN_FILE)", NAMED_BOUND, identity);
        return Ok(SharedCredentialsProvider::new(Chain(vec![step])));
    }
    let container = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    if let Some(variable) = container.into_iter().find(|name| environment.get(name).is_some()) {
        // The SDK reads this provider's settings from the process environment itself.
        let container = EcsCredentialsProvider::builder().configure(&config).build();
        let step = Step::new(format!("the container credentials ({variable})"), NAMED_BOUND, container);
        return Ok(SharedCredentialsProvider::new(Chain(vec![step])));
    }
    let name = profile_name(environment);
    let profile = ProfileFileCredentialsProvider::builder()
        .configure(&config)
        .profile_name(name)
        .profile_files(profile_files(environment))
        .build();
    let mut steps = vec![Step::new(format!("the profile '{name}'"), PROFILE_BOUND, profile)];
    if connect.instance_metadata {
        let metadata = ImdsCredentialsProvider::builder().configure(&config).build();
        let mut step = Step::new("the instance metadata service", NONE_BOUND, metadata);
        step.silence_is_absence = true;
        steps.push(step);
    }
    Ok(SharedCredentialsProvider::new(Chain(steps)))
}

/// The profile in use.
pub(super) fn profile_name(environment: &Environment) -> &str {
    environment.get("AWS_PROFILE").unwrap_or("default")
}

/// The profile files that the environment names, or the ones in the home directory. A file that does not exist counts
/// as empty.
#[expect(deprecated, reason = "the SDK names no replacement outside its own runtime crates")]
pub(super) fn profile_files(environment: &Environment) -> ProfileFiles {
    let home = environment.get("HOME").map(PathBuf::from).unwrap_or_default();
    let mut files = ProfileFiles::builder();
    for (kind, variable, usual) in [
        (ProfileFileKind::Config, "AWS_CONFIG_FILE", ".aws/config"),
        (ProfileFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ] {
        let path = match environment.get(variable) {
            Some(path) => path.strip_prefix("~/").map_or_else(|| path.into(), |rest| home.join(rest)),
            None => home.join(usual),
        };
        files = if path.is_file() { files.with_file(kind, path) } else { files.with_contents(kind, "") };
    }
    files.build()
}

/// One place to ask for credentials.
#[derive(Debug)]
struct Step {
    name: String,
    bound: Duration,
    /// No answer means that the place does not exist, rather than that it is slow.
    silence_is_absence: bool,
    provider: SharedCredentialsProvider,
}

impl Step {
    fn new(name: impl Into<String>, bound: Duration, provider: impl ProvideCredentials + 'static) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { name: name.into(), bound, silence_is_absence: false, provider }
    }

    async fn ask(&self) -> std::result::Result<Credentials, CredentialsError> {
        match tokio::time::timeout(self.bound, self.provider.provide_credentials()).await {
            Ok(Err(CredentialsError::ProviderTimedOut(_))) | Err(_) if self.silence_is_absence => {
                Err(CredentialsError::not_loaded_no_source())
            }
            Ok(outcome) => outcome,
            Err(_) => Err(CredentialsError::provider_timed_out(self.bound)),
        }
    }
}

/// Asks one place after the other; the first that has credentials, or fails, decides.
#[derive(Debug)]
struct Chain(Vec<Step>);

impl Chain {
    async fn load(&self) -> std::result::Result<Credentials, CredentialsError> {
        for step in &self.0 {
            match step.ask().await {
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => {
                    let text = format!("{} failed: {}", step.name, innermost(&error));
                    let failure = Failure { text, transient: is_transient(&error) };
                    return Err(CredentialsError::provider_error(failure));
                }
                found => return found,
            }
        }
        let names: Vec<&str> = self.0.iter().map(|step| step.name.as_str()).collect();
        let text = format!(
            "AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_* are not set, and there \
             are none in {}",
            names.join(" or ")
        );
        Err(CredentialsError::not_loaded(Failure { text, transient: false }))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(self.load())
    }
}

/// Why there are no credentials. Found again in the source chain of whatever the SDK makes of it.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was tried, and what came of it.
    pub(super) text: String,
    /// Whether trying again later may help.
    pub(super) transient: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Whether the provider could not be reached or is overloaded, rather than refusing.
fn is_transient(error: &CredentialsError) -> bool {
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = link {
        // What a token service calls its own trouble; its error types are not public here.
        let text = error.to_string();
        if error.is::<ConnectorError>()
            || ["Throttl", "ServiceUnavailable", "InternalFailure", "InternalError"]
                .iter()
                .any(|code| text.contains(code))
        {
            return true;
        }
        link = error.source();
    }
    matches!(error, CredentialsError::ProviderTimedOut(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(pairs: &[(&str, &str)], instance_metadata: bool) -> Connect {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Connect { instance_metadata, environment, ..Connect::default() }
    }

    fn provider(connect: &Connect) -> Result<SharedCredentialsProvider> {
        connect.session.provider(connect, &Region::from_static("us-east-1"))
    }

    async fn failure(connect: &Connect) -> (String, bool) {
        let error = provider(connect).expect("chosen").provide_credentials().await.expect_err("none");
        let failure = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Failure>());
        failure.map(|failure| (failure.text.clone(), failure.transient)).expect("a Failure")
    }

    #[tokio::test]
    async fn keys_of_the_environment_win_and_are_cached_per_environment() {
        let first = connect(
            &[
                ("AWS_ACCESS_KEY_ID", "one"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_SESSION_TOKEN", "token"),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/none"),
            ],
            false,
        );
        let keys = provider(&first).expect("chosen").provide_credentials().await.expect("keys");
        assert_eq!((keys.access_key_id(), keys.session_token()), ("one", Some("token")));
        let environment = connect(&[("AWS_ACCESS_KEY_ID", "two"), ("AWS_SECRET_ACCESS_KEY", "s")], false);
        let second = Connect { environment: environment.environment, ..first };
        let keys = provider(&second).expect("chosen").provide_credentials().await.expect("keys");
        assert_eq!((keys.access_key_id(), keys.session_token()), ("two", None));
    }

    #[test]
    fn half_a_setting_is_named() {
        for (pairs, text) in [
            ([("AWS_ACCESS_KEY_ID", "x")], "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"),
            ([("AWS_SECRET_ACCESS_KEY", "x")], "AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"),
            (
                [("AWS_WEB_IDENTITY_TOKEN_FILE", "x")],
                "AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN",
            ),
        ] {
            let error = provider(&connect(&pairs, false)).expect_err(text);
            assert_eq!(error.to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_web_identity_is_used_alone() {
        let pairs =
            [("AWS_WEB_IDENTITY_TOKEN_FILE", "/does/not/exist"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")];
        let (text, transient) = failure(&connect(&pairs, true)).await;
        assert!(text.starts_with("the web identity (AWS_WEB_IDENTITY_TOKEN_FILE) failed: "), "{text}");
        assert!(!transient);
    }

    #[tokio::test]
    async fn none_at_all_names_what_was_tried() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let home = home.path().to_str().expect("UTF-8");
        let (text, transient) = failure(&connect(&[("HOME", home), ("AWS_PROFILE", "work")], false)).await;
        assert!(text.contains("AWS_ACCESS_KEY_ID") && text.ends_with("in the profile 'work'"), "{text}");
        assert!(!transient);
    }
}
