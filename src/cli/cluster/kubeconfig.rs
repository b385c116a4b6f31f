//! Which API server, and as whom: the kubeconfig, read as kubectl reads it; in a pod without one, its service account.

use std::path::Path;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::error::{Error, Result};

/// The configuration of the client: from `file`, else from the files that KUBECONFIG names, else from `~/.kube/config`, else
/// from the pod. `is_named` says whether KUBECONFIG is set: what was named must be there.
///
/// # Errors
/// `Invalid` where none can be used.
pub(super) async fn load(file: Option<&Path>, context: Option<&str>, is_named: bool) -> Result<Config> {
    let read = match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if file.is_none() && context.is_none() && !is_named => {
            return Config::incluster().map_err(|_| unusable(&error));
        }
        Err(error) => return Err(unusable(&error)),
    };
    let hint = contexts(&kubeconfig);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
        KubeconfigError::LoadContext(name) => {
            Error::invalid(format!("the kubeconfig has no context '{name}'")).with_hint(hint)
        }
        KubeconfigError::CurrentContextNotSet => {
            Error::invalid("the kubeconfig has no current context").with_hint(hint)
        }
        other => unusable(&other),
    })
}

/// The parser's own words may quote the file, in which credentials stand.
fn unusable(error: &KubeconfigError) -> Error {
    let why = match error {
        KubeconfigError::ReadConfig(error, path) => {
            format!("cannot read '{}': {}", path.display(), crate::error::io_reason(error))
        }
        KubeconfigError::Parse(error) => match error.location() {
            Some(location) => format!("it is not a kubeconfig, see its line {}", location.line()),
            None => "it is not a kubeconfig".to_owned(),
        },
        other => other.to_string(),
    };
    Error::invalid(format!("no usable kubeconfig: {why}"))
        .with_hint("name one with --kubeconfig FILE or KUBECONFIG; kubectl config view shows what is in use")
}

fn contexts(kubeconfig: &Kubeconfig) -> String {
    let names: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    if names.is_empty() {
        return "it has none; see: kubectl config view".to_owned();
    }
    format!("it has: {}; choose with --context NAME", names.join(", "))
}
