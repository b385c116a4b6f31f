//! AWS clients: region, credentials, retries, time-outs and one HTTP stack, the same for every backend.
//!
//! Reads AWS settings from [`Connect::environment`], so that a test or a cluster can give its own. Not responsible for
//! what the clients are used for; how their errors are read stands in [`error`].

#[cfg(any(feature = "ledger-s3", feature = "store-s3"))]
pub(crate) mod bucket;
mod credentials;
pub(crate) mod date;
pub mod error;
mod http;
#[cfg(feature = "cli")]
pub(crate) mod inspect;
#[cfg(feature = "cli")]
pub(crate) mod inspect_bucket;
mod refusal;
mod sso;

use std::time::Duration;

use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::checksum_config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Result};

pub use credentials::Session;
pub use error::{Call, status_and_code};

/// The region that a bucket is created in when its location is left out, and the only one where it must be.
#[cfg(any(feature = "ledger-s3", feature = "store-s3"))]
const REGION_WITHOUT_CONSTRAINT: &str = "us-east-1";

/// Servers on the same machine or in the same cluster need no region, but a signature does.
const REGION_OF_CUSTOM_ENDPOINTS: &str = "us-east-1";

/// The longest that one connection may take to come up. A refused one fails at once; this bounds silence.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest that one attempt may take. A connection that died silently then costs this, not the whole deadline.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// No byte for this long ends a transfer.
const STALL: Duration = Duration::from_secs(20);

/// Attempts of one operation, the first included. With the backoff below they take at most about 6 s when each fails at
/// once (a refused connection), so a wrong endpoint is reported long before the deadline.
const ATTEMPTS: u32 = 6;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Where a service is asked: a region, and perhaps another endpoint than the region's own.
struct Place {
    region: String,
    endpoint: Option<String>,
}

/// A client for the bucket at `location`. Makes no request; credentials are loaded by the first one.
///
/// # Errors
/// `Invalid` when no region is known, or the environment has half a key pair.
#[cfg(any(feature = "ledger-s3", feature = "store-s3"))]
pub async fn s3_client(location: &crate::model::S3Location, connect: &Connect) -> Result<aws_sdk_s3::Client> {
    let clock = crate::server_clock::ServerClock::new(connect.clock.clone());
    s3_client_with_clock(location, connect, std::sync::Arc::new(clock)).await
}

/// The same client; `clock` learns from its answers what time it is at the server.
#[cfg(any(feature = "ledger-s3", feature = "store-s3"))]
async fn s3_client_with_clock(
    location: &crate::model::S3Location,
    connect: &Connect,
    clock: std::sync::Arc<crate::server_clock::ServerClock>,
) -> Result<aws_sdk_s3::Client> {
    let place =
        place("S3", location.region.as_deref(), location.endpoint.as_deref(), &connect.environment).await?;
    // An endpoint from the environment is another server too, and may know no host names per bucket.
    let path_style = location.path_style || (location.endpoint.is_none() && place.endpoint.is_some());
    let config = sdk_config(place, connect)?;
    let config = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(path_style)
        .interceptor(date::DateObserver(clock));
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// A client for DynamoDB in `region`, or at `endpoint`. Makes no request; credentials are loaded by the first one.
///
/// # Errors
/// `Invalid` when the environment has half a key pair.
#[cfg(feature = "ledger-dynamo")]
pub async fn dynamo_client(
    region: &str,
    endpoint: Option<&str>,
    connect: &Connect,
) -> Result<aws_sdk_dynamodb::Client> {
    let clock = crate::server_clock::ServerClock::new(connect.clock.clone());
    dynamo_client_with_clock(region, endpoint, connect, std::sync::Arc::new(clock)).await
}

/// The same client; `clock` learns from its answers what time it is at the server.
#[cfg(feature = "ledger-dynamo")]
pub(crate) async fn dynamo_client_with_clock(
    region: &str,
    endpoint: Option<&str>,
    connect: &Connect,
    clock: std::sync::Arc<crate::server_clock::ServerClock>,
) -> Result<aws_sdk_dynamodb::Client> {
    let place = place("DYNAMODB", Some(region), endpoint, &connect.environment).await?;
    let config = sdk_config(place, connect)?;
    let config = aws_sdk_dynamodb::config::Builder::from(&config).interceptor(date::DateObserver(clock));
    Ok(aws_sdk_dynamodb::Client::from_conf(config.build()))
}

/// Settles region and endpoint: what the URI says, then the environment, then the profile.
async fn place(
    service: &str,
    region: Option<&str>,
    endpoint: Option<&str>,
    environment: &Environment,
) -> Result<Place> {
    let endpoint = endpoint
        .or_else(|| environment.get(&format!("AWS_ENDPOINT_URL_{service}")))
        .or_else(|| environment.get("AWS_ENDPOINT_URL"))
        .map(str::to_owned);
    let named = region
        .or_else(|| environment.get("AWS_REGION"))
        .or_else(|| environment.get("AWS_DEFAULT_REGION"))
        .map(str::to_owned);
    let region = match named {
        Some(region) => region,
        None => match profile_region(environment).await {
            Some(region) => region,
            None if endpoint.is_some() => REGION_OF_CUSTOM_ENDPOINTS.to_owned(),
            None => {
                return Err(Error::invalid("no AWS region is known")
                    .with_hint("set AWS_REGION, or write ?region=<region> in the URI"));
            }
        },
    };
    Ok(Place { region, endpoint })
}

async fn profile_region(environment: &Environment) -> Option<String> {
    let provider = ProfileFileRegionProvider::builder()
        .profile_name(credentials::profile_name(environment))
        .profile_files(credentials::profile_files(environment))
        .build();
    provider.region().await.map(|region| region.as_ref().to_owned())
}

fn sdk_config(place: Place, connect: &Connect) -> Result<SdkConfig> {
    let region = Region::new(place.region);
    let provider = connect.session.provider(connect, &region)?;
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(provider)
        .http_client(http::client())
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(FIRST_BACKOFF)
                .with_max_backoff(LONGEST_BACKOFF),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT.min(connect.deadline))
                .operation_attempt_timeout(ATTEMPT_TIMEOUT.min(connect.deadline))
                .operation_timeout(connect.deadline)
                .build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL).build())
        .use_fips(flag(&connect.environment, "AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(flag(&connect.environment, "AWS_USE_DUALSTACK_ENDPOINT"));
    config.set_identity_cache(Some(connect.session.identities()));
    if let Some(endpoint) = place.endpoint {
        // Several servers refuse the checksum trailers that the SDK sends by default.
        config = config
            .endpoint_url(endpoint)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Ok(config.build())
}

fn flag(environment: &Environment, name: &str) -> bool {
    environment.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Time limits for a request that moves `bytes` of a blob: the deadline, and on top of it the time the bytes take on
/// the slowest line that is still of use (64 KiB/s). Silence is caught earlier, by the stall protection.
#[cfg(all(feature = "store-s3", feature = "cli"))]
pub(crate) fn transfer_timeouts(bytes: u64, connect: &Connect) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(connect.deadline))
        .disable_operation_attempt_timeout()
        .operation_timeout(connect.deadline + Duration::from_secs(bytes / (64 * 1024)))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[tokio::test]
    async fn the_region_comes_from_the_uri_then_the_environment_then_the_profile() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = home.path().join("config");
        std::fs::write(&config, "[profile work]\nregion = eu-north-1\n").expect("written");
        let config = config.to_str().expect("UTF-8");
        let profile = [("AWS_CONFIG_FILE", config), ("AWS_PROFILE", "work")];
        let mut all = profile.to_vec();
        all.extend([("AWS_DEFAULT_REGION", "ap-south-1"), ("AWS_REGION", "us-west-2")]);

        let settle = async |region, endpoint, pairs: &[(&str, &str)]| {
            place("S3", region, endpoint, &environment(pairs)).await.map(|place| place.region)
        };
        assert_eq!(settle(Some("sa-east-1"), None, &all).await.expect("known"), "sa-east-1");
        assert_eq!(settle(None, None, &all).await.expect("known"), "us-west-2");
        assert_eq!(settle(None, None, &all[..3]).await.expect("known"), "ap-south-1");
        assert_eq!(settle(None, None, &profile).await.expect("known"), "eu-north-1");
        assert_eq!(settle(None, Some("http://127.0.0.1:1"), &[]).await.expect("known"), "us-east-1");
        let error = settle(None, None, &[]).await.expect_err("no region");
        assert!(error.hint().is_some_and(|hint| hint.contains("AWS_REGION")), "{error:?}");
    }

    #[tokio::test]
    async fn an_endpoint_may_stand_in_the_environment() {
        let variables =
            environment(&[("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_ENDPOINT_URL_S3", "http://s3:1")]);
        let endpoint = async |service, endpoint| {
            place(service, Some("us-east-1"), endpoint, &variables).await.expect("settled").endpoint
        };
        assert_eq!(endpoint("S3", Some("http://uri:1")).await.as_deref(), Some("http://uri:1"));
        assert_eq!(endpoint("S3", None).await.as_deref(), Some("http://s3:1"));
        assert_eq!(endpoint("DYNAMODB", None).await.as_deref(), Some("http://all:1"));
    }
}
