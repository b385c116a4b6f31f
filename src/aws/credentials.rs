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
use super::{http, sso};
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// To find out that nobody has credentials may take this long.
const NONE_BOUND: Duration = Duration::from_secs(2);

/// A provider that the environment names may take this long with its retries: it exists, it may be slow.
const NAMED_BOUND: Duration = Duration::from_secs(10);

/// A profile may start a program or open a session with a person.
const PROFILE_BOUND: Duration = Duration::from_mins(1);

/// Keys in variables, as they are called in messages.
#[cfg(feature = "cli")]
const ENVIRONMENT: &str = "the environment (AWS_ACCESS_KEY_ID)";

/// What the AWS clients opened from one [`Connect`] share: each credential is loaded once, not once per client. Clones
/// are the same session.
#[derive(Clone, Default)]
pub struct Session(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    chosen: Option<(Environment, bool, Chosen)>,
    identities: Option<SharedIdentityCache>,
}

/// Where the credentials of one environment come from.
#[derive(Clone)]
struct Chosen {
    provider: SharedCredentialsProvider,
    /// Nothing where the keys themselves stand in the environment.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only `doctor` asks which place it was"))]
    chain: Option<Arc<Chain>>,
}

impl From<Chain> for Chosen {
    fn from(chain: Chain) -> Self {
        let chain = Arc::new(chain);
        let provider: Arc<dyn ProvideCredentials> = chain.clone();
        Self { provider: provider.into(), chain: Some(chain) }
    }
}

/// Credentials, and what gave them.
#[cfg(feature = "cli")]
#[derive(Clone)]
pub(super) struct Found {
    /// As it is called in messages: `the profile 'work'`.
    pub(super) source: String,
    pub(super) credentials: Credentials,
    /// Nobody took them yet.
    is_fresh: bool,
}

#[cfg(feature = "cli")]
impl Found {
    /// Whether the keys stand in variables, rather than coming from somebody who is asked.
    pub(super) fn is_of_environment(&self) -> bool {
        self.source == ENVIRONMENT
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// The credentials of `connect`. Makes no request. `region` is where a web identity is exchanged.
    pub(super) fn provider(&self, connect: &Connect, region: &Region) -> Result<SharedCredentialsProvider> {
        self.chosen(connect, region).map(|chosen| chosen.provider)
    }

    fn chosen(&self, connect: &Connect, region: &Region) -> Result<Chosen> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((environment, instance_metadata, chosen)) = &shared.chosen
            && *environment == connect.environment
            && *instance_metadata == connect.instance_metadata
        {
            return Ok(chosen.clone());
        }
        let chosen = choose(connect, region)?;
        shared.chosen = Some((connect.environment.clone(), connect.instance_metadata, chosen.clone()));
        Ok(chosen)
    }

    /// The credentials in force, and what gave them. The first request after this takes them over, so that nobody is asked
    /// for a code twice.
    #[cfg(feature = "cli")]
    pub(super) async fn look(
        &self,
        connect: &Connect,
        region: &Region,
    ) -> Result<std::result::Result<Found, CredentialsError>> {
        let chosen = self.chosen(connect, region)?;
        Ok(match chosen.chain {
            Some(chain) => chain.look().await,
            None => chosen.provider.provide_credentials().await.map(|credentials| Found {
                source: ENVIRONMENT.to_owned(),
                credentials,
                is_fresh: false,
            }),
        })
    }

    pub(super) fn identities(&self) -> SharedIdentityCache {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Longer than any provider's own bound: the provider's error says more than the cache's.
        let build = || IdentityCache::lazy().load_timeout(PROFILE_BOUND * 2).build();
        shared.identities.get_or_insert_with(build).clone()
    }
}

/// Exactly the provider that the environment names; else profiles, and instance metadata if it is allowed.
fn choose(connect: &Connect, region: &Region) -> Result<Chosen> {
    let environment = &connect.environment;
    match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
            let keys = Credentials::new(id, secret, token, None, "environment");
            return Ok(Chosen { provider: SharedCredentialsProvider::new(keys), chain: None });
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
        return Ok(Chain::new(vec![step]).into());
    }
    let container = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    if let Some(variable) = container.into_iter().find(|name| environment.get(name).is_some()) {
        // The SDK reads this provider's settings from the process environment itself.
        let container = EcsCredentialsProvider::builder().configure(&config).build();
        let step = Step::new(format!("the container credentials ({variable})"), NAMED_BOUND, container);
        return Ok(Chain::new(vec![step]).into());
    }
    let name = profile_name(environment);
    let profile = ProfileFileCredentialsProvider::builder()
        .configure(&config)
        .profile_name(name)
        .profile_files(profile_files(environment))
        .build();
    let mut step = Step::new(format!("the profile '{name}'"), PROFILE_BOUND, profile);
    step.profile = Some(name.to_owned());
    let mut steps = vec![step];
    if connect.instance_metadata {
        let metadata = ImdsCredentialsProvider::builder().configure(&config).build();
        let mut step = Step::new("the instance metadata service", NONE_BOUND, metadata);
        step.silence_is_absence = true;
        steps.push(step);
    }
    Ok(Chain::new(steps).into())
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
    /// The profile, where it is one.
    profile: Option<String>,
    provider: SharedCredentialsProvider,
}

impl Step {
    fn new(name: impl Into<String>, bound: Duration, provider: impl ProvideCredentials + 'static) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { name: name.into(), bound, silence_is_absence: false, profile: None, provider }
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

    /// What a failure of this place says, and what to do about it.
    fn failure(&self, error: &CredentialsError) -> Failure {
        if let Some(profile) = self.profile.as_deref().filter(|_| sso::is_over(error)) {
            let text = format!("{} has no SSO session, or it is over", self.name);
            return Failure { text, transient: false, hint: Some(sso::hint(profile)) };
        }
        let text = format!("{} failed: {}", self.name, innermost(error));
        Failure { text, transient: is_transient(error), hint: None }
    }
}

/// Asks one place after the other; the first that has credentials, or fails, decides.
struct Chain {
    steps: Vec<Step>,
    /// What was found for somebody who only looked.
    #[cfg(feature = "cli")]
    found: Mutex<Option<Found>>,
}

/// Never credentials.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.steps).finish()
    }
}

impl Chain {
    fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            #[cfg(feature = "cli")]
            found: Mutex::default(),
        }
    }

    /// The credentials, and the step that gave them.
    async fn ask(&self) -> std::result::Result<(&Step, Credentials), CredentialsError> {
        for step in &self.steps {
            match step.ask().await {
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => return Err(CredentialsError::provider_error(step.failure(&error))),
                Ok(credentials) => return Ok((step, credentials)),
            }
        }
        let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        let text = format!(
            "AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_* are not set, and there \
             are none in {}",
            names.join(" or ")
        );
        Err(CredentialsError::not_loaded(Failure { text, transient: false, hint: None }))
    }

    #[cfg(feature = "cli")]
    async fn look(&self) -> std::result::Result<Found, CredentialsError> {
        if let Some(found) = &*self.found() {
            return Ok(found.clone());
        }
        let (step, credentials) = self.ask().await?;
        let found = Found { source: step.name.clone(), credentials, is_fresh: true };
        *self.found() = Some(found.clone());
        Ok(found)
    }

    #[cfg(feature = "cli")]
    fn found(&self) -> std::sync::MutexGuard<'_, Option<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self) -> std::result::Result<Credentials, CredentialsError> {
        #[cfg(feature = "cli")]
        if let Some(found) = self.found().as_mut().filter(|found| found.is_fresh) {
            found.is_fresh = false;
            return Ok(found.credentials.clone());
        }
        self.ask().await.map(|(_, credentials)| credentials)
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
    /// What to do about it, where that is known.
    pub(super) hint: Option<String>,
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
