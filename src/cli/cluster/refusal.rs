//! What a failure of the Kubernetes client means, in the one error type, with what to do about it.
//!
//! A credential plugin's output may hold a token, and an answer may quote a request: neither is kept.

use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;
use kube::{Error as Failure, Resource};

use crate::api::{GROUP, VERSION};
use crate::cli::message::typed;
use crate::error::{Error, Meaning, Missing};

/// What was asked of the API server.
#[derive(Debug)]
pub(super) struct Request {
    /// As a verb phrase.
    operation: &'static str,
    server: String,
    kind: String,
    plural: String,
    /// Nothing is all of them.
    namespace: Option<String>,
}

impl Request {
    /// The list of a kind.
    pub(super) fn to_list<K: Resource<DynamicType = ()>>(server: &str, namespace: Option<&str>) -> Self {
        Self {
            operation: "list objects",
            server: server.to_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespace: namespace.map(str::to_owned),
        }
    }

    /// Whatever comes before the first request.
    pub(super) fn to_log_in(server: &str) -> Self {
        Self {
            operation: "log in",
            server: server.to_owned(),
            kind: String::new(),
            plural: String::new(),
            namespace: None,
        }
    }

    fn error(&self, meaning: Meaning) -> Error {
        Error::new(meaning, self.operation).with_key(self.server.as_str())
    }
}

/// The failure by its meaning.
pub(super) fn refusal(failure: Failure, request: &Request) -> Error {
    match failure {
        Failure::Api(status) => answered(*status, request),
        Failure::Auth(error) => no_credentials(&error, request),
        Failure::Service(error) => match within(error.as_ref()) {
            Some(error) => no_credentials(error, request),
            None => unreachable(request).with_source(error),
        },
        Failure::HyperError(error) => unreachable(request).with_source(error),
        Failure::InferConfig(_)
        | Failure::InferKubeconfig(_)
        | Failure::RustlsTls(_)
        | Failure::TlsRequired
        | Failure::ProxyProtocolUnsupported { .. }
        | Failure::ProxyProtocolDisabled { .. } => {
            Error::invalid(format!("the kubeconfig cannot be used: {failure}"))
                .with_hint("see what is in use with: kubectl config view")
        }
        other => unexpected(other, request),
    }
}

/// The failure that the API server did not answer in time. The client tries again by itself while it is overloaded.
pub(super) fn late(server: &str, limit: Duration) -> Error {
    Error::new(Meaning::Unavailable, "list objects").with_key(server).with_hint(format!(
        "it gave no answer, or asked for less load, for {limit:?}; wait longer with --request-timeout 2m"
    ))
}

/// The failure that nobody expected.
pub(super) fn unexpected(
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    request: &Request,
) -> Error {
    request.error(Meaning::Other).with_source(source)
}

fn answered(status: Status, request: &Request) -> Error {
    match status.code {
        401 => request
            .error(Meaning::Denied { action: "to log in".to_owned(), resource: "the API server".to_owned() })
            .with_hint("the credentials of the kubeconfig are not valid, or not any more; log in again"),
        403 => forbidden(request),
        404 => missing_kind(request),
        429 => request.error(Meaning::Throttled).with_hint("try again later").with_source(status),
        500.. => unreachable(request).with_source(status),
        _ => unexpected(status, request),
    }
}

fn forbidden(request: &Request) -> Error {
    let resource = format!("{}.{GROUP}", request.plural);
    let (place, flag, role) = match &request.namespace {
        Some(namespace) => {
            (format!("in namespace '{namespace}'"), format!("-n {}", typed(namespace)), "Role in it")
        }
        None => ("in all namespaces".to_owned(), "-A".to_owned(), "ClusterRole"),
    };
    let hint = format!(
        "ask for a {role} with the verbs get and list on sackerpackages and sackertags of {GROUP}; \
         check with: kubectl auth can-i list {resource} {flag}"
    );
    request
        .error(Meaning::Denied { action: "list".to_owned(), resource: format!("{resource} {place}") })
        .with_hint(hint)
}

/// A list of a kind that the API server knows is never 404, also in a namespace that is not there.
fn missing_kind(request: &Request) -> Error {
    let what = format!("kind {} ({GROUP}/{VERSION})", request.kind);
    request.error(Meaning::NotFound(Missing::Backend(what))).with_hint(
        "sacker is not installed in this cluster: an administrator does it with: kubectl apply -f crds/; \
         --context chooses another cluster",
    )
}

/// The failure to get credentials that lies under another, if that is it.
fn within<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a AuthError> {
    loop {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        error = error.source()?;
    }
}

fn no_credentials(error: &AuthError, request: &Request) -> Error {
    let why = match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("its credential plugin failed ({}); kubectl auth whoami shows what it says", out.status)
        }
        AuthError::AuthExecStart(error) => {
            format!("its credential plugin cannot be started: {}", crate::error::io_reason(error))
        }
        AuthError::AuthExecParse(_) => {
            "its credential plugin answered something else than credentials".to_owned()
        }
        AuthError::ReadTokenFile(error, path) => {
            format!("cannot read '{}': {}", path.display(), crate::error::io_reason(error))
        }
        _ => "they are not complete".to_owned(),
    };
    request
        .error(Meaning::Denied { action: "to log in".to_owned(), resource: "the API server".to_owned() })
        .with_hint(format!("the kubeconfig gives no credentials: {why}"))
}

fn unreachable(request: &Request) -> Error {
    request
        .error(Meaning::Unavailable)
        .with_hint("try the same with: kubectl cluster-info; -v shows what lies under it")
}
