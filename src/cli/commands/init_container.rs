//! `sacker init-container`: what a pod needs to fetch a version before it starts, as YAML to paste.
//!
//! The same container as in `config/policies/injection.yaml`, for clusters and people without that policy.

use std::fmt::Write as _;

use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::typed;
use crate::cli::output::print_warning;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::model::{LedgerUri, PackageName, Spec, StoreUri};

use super::resolve::split;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker init-container frontend-server@live\n  sacker init-container frontend-server@live --pin --to /artifacts/app.jar"
)]
pub(in crate::cli) struct Args {
    /// The package, and a version, a tag or 'latest'
    #[arg(value_name = "PACKAGE[@SPEC]")]
    pub(in crate::cli) what: String,
    /// Resolve it now: all pods get these bytes, whatever becomes of the tag, and need no access to the ledger
    #[arg(long)]
    pin: bool,
    /// Where to, in the pod: a file, or a directory with a '/' at its end
    #[arg(long, value_name = "PATH")]
    to: Option<String>,
    /// The image of sacker-init
    #[arg(long, value_name = "IMAGE", default_value = concat!("sacker-init:", env!("CARGO_PKG_VERSION")))]
    image: String,
}

/// The volume's usual place.
const DIRECTORY: &str = "/artifacts/";

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let (package, spec) = split(&args.what);
    let package = input::package(package)?;
    let spec: Spec = spec.unwrap_or("latest").parse()?;
    let store = &session.configuration.store()?.value;
    let ledger = &session.configuration.ledger()?.value;
    let mut environment = vec![("SACKER_STORE", store.to_string())];
    let (fetched, to) = if args.pin {
        let record = session.ledger().await?.resolve(&package, &spec).await?.record;
        (record.pinned().to_string(), args.to.clone().unwrap_or_else(|| in_volume(&record.basename)))
    } else {
        environment.insert(0, ("SACKER_LEDGER", ledger.to_string()));
        (named(&package, &spec), args.to.clone().unwrap_or_else(|| DIRECTORY.to_owned()))
    };
    let is_local = !args.pin && matches!(ledger, LedgerUri::File(_))
        || store.iter().any(|store| matches!(store, StoreUri::File(_)));
    if is_local {
        print_warning(format_args!(
            "a file:// ledger or store is a directory of this machine: a pod finds it only where it is mounted"
        ));
    }
    let directory = directory_of(&to, &args.what)?;
    let snippet = Snippet { fetched: &fetched, to: &to, directory, image: &args.image, environment };
    session.printer.text(&snippet.yaml())
}

/// A spec as sacker-init reads it: the last `@` ends the package.
fn named(package: &PackageName, spec: &Spec) -> String {
    format!("{package}@{spec}")
}

/// A file of the volume. A recorded name is somebody's input, and only a harmless one is used.
fn in_volume(basename: &str) -> String {
    let name = if crate::model::check_basename(basename).is_ok() { basename } else { "artifact" };
    format!("{DIRECTORY}{name}")
}

/// The directory that the volume is mounted at.
fn directory_of<'a>(to: &'a str, what: &str) -> Result<&'a str> {
    let refused = |rule: &str| {
        Error::invalid(format!("--to '{to}' {rule}"))
            .with_hint(format!("such as: sacker init-container {} --to {DIRECTORY}app.jar", typed(what)))
    };
    if !to.starts_with('/') {
        return Err(refused("is no absolute path"));
    }
    match to.rsplit_once('/').map(|(directory, _)| directory) {
        Some(directory) if !directory.is_empty() => Ok(directory),
        _ => Err(refused("is not in a directory, which the volume needs")),
    }
}

/// What is pasted.
struct Snippet<'a> {
    fetched: &'a str,
    to: &'a str,
    directory: &'a str,
    image: &'a str,
    environment: Vec<(&'static str, String)>,
}

impl Snippet<'_> {
    /// Every pod that the level `restricted` of the pod security standards admits may have it.
    fn yaml(&self) -> String {
        let mut environment = String::new();
        for (name, value) in &self.environment {
            // Writing to a String cannot fail.
            let _ = writeln!(environment, "    - {{name: {name}, value: {}}}", quoted(value));
        }
        format!(
            "\
# Into the spec of a pod, or of the template of a Deployment:
volumes:
- name: artifacts
  emptyDir: {{}}
initContainers:
- name: sacker-init
  image: {image}
  args: [{fetched}, --to, {to}]
  env:
{environment}  volumeMounts:
  - {{name: artifacts, mountPath: {directory}}}
  resources:
    requests: {{cpu: 100m, memory: 64Mi}}
    limits: {{memory: 64Mi}}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: {{drop: [ALL]}}
    seccompProfile: {{type: RuntimeDefault}}
# And into each container that reads the files:
#   volumeMounts:
#   - {{name: artifacts, mountPath: {directory}, readOnly: true}}
",
            image = quoted(self.image),
            fetched = quoted(self.fetched),
            to = quoted(self.to),
            directory = quoted(self.directory),
        )
    }
}

/// A string of YAML, whatever is in it: JSON's strings are YAML's, too.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_word = text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    // `yes`, `null` and their like are words to people and not to YAML.
    if is_word && text.contains(['/', '.']) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_is_mounted_where_the_file_goes() {
        let of = |to| directory_of(to, "web");
        assert_eq!(of("/artifacts/").expect("a directory"), "/artifacts");
        assert_eq!(of("/opt/app/app.jar").expect("a directory"), "/opt/app");
        for to in ["app.jar", "/app.jar", "/", ""] {
            assert!(of(to).is_err(), "{to}");
        }
    }

    #[test]
    fn whatever_is_in_it_stays_one_string() {
        assert_eq!(quoted("/artifacts/app.jar"), "/artifacts/app.jar");
        for text in ["yes", "null", "a: b", "x, y]", "1.5", "web@live", "a\"b", "#", ""] {
            let parsed: String = serde_saphyr::from_str(&quoted(text)).expect("YAML");
            assert_eq!(parsed, text);
        }
    }
}
