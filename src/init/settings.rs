//! Arguments and environment, resolved once into plain data. A flag wins over its variable; there is no file.
//!
//! Pure. The standard AWS variables are read by the backends themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::Arguments;
use super::request::{Request, What, check_replaced, no_destination};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::fetch::Patience;
use crate::model::{LedgerUri, StoreUris};

/// The whole run may take this long where nobody says otherwise: gigabytes over a slow network, and still an end.
const TIMEOUT: Duration = Duration::from_mins(10);

/// A cache for which no size is given may grow to this, in bytes.
const CACHE_SIZE: u64 = 10 << 30;

/// Where the kubelet looks for the last words of a container.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Everything a run needs to know.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    /// What to fetch, at least one.
    pub(super) requests: Vec<Request>,
    /// Set if, and only if, a request needs it.
    pub(super) ledger: Option<LedgerUri>,
    pub(super) store: StoreUris,
    /// Permission bits instead of the recorded ones.
    pub(super) mode: Option<u32>,
    /// For the whole run.
    pub(super) timeout: Duration,
    pub(super) patience: Patience,
    pub(super) instance_metadata: bool,
    /// Whether files have to survive the node's power cut. A volume that lives as long as its pod need not.
    pub(super) fsync: bool,
    /// Whether blobs are archives, to be unpacked.
    pub(super) extract: bool,
    /// A directory that pods of a node share, and how many bytes it may hold.
    pub(super) cache: Option<(PathBuf, u64)>,
}

/// The file for the last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TerminationLog {
    /// It was asked for: make it.
    Asked(PathBuf),
    /// The usual place: write to it if the kubelet made it.
    Usual(PathBuf),
}

impl TerminationLog {
    /// Needed before anything else can fail, so it does not fail itself.
    pub(super) fn of(arguments: Option<&Arguments>, environment: &Environment) -> Self {
        let flag = arguments.and_then(|arguments| arguments.termination_log.clone());
        match flag.or_else(|| environment.get("SACKER_TERMINATION_LOG").map(PathBuf::from)) {
            Some(path) => Self::Asked(path),
            None => Self::Usual(PathBuf::from(TERMINATION_LOG)),
        }
    }
}

impl Settings {
    /// Resolves arguments and environment.
    ///
    /// # Errors
    /// `Invalid`, naming the flag or variable and the rule.
    pub(super) fn resolve(arguments: &Arguments, environment: &Environment) -> Result<Self> {
        let get = |flag: &Option<String>, variable| {
            flag.clone().or_else(|| environment.get(variable).map(str::to_owned))
        };
        let requests = requests(arguments, environment)?;
        let flags = (!arguments.store.is_empty()).then(|| arguments.store.join(" "));
        let store = get(&flags, "SACKER_STORE").ok_or_else(|| {
            Error::invalid("no store is set").with_hint("give --store s3://<bucket>, or set SACKER_STORE")
        })?;
        let by_spec = requests.iter().find_map(|request| match &request.what {
            What::Spec(package, spec) => Some(format!("{package}@{spec}")),
            What::Pinned(_) | What::PinFile(_) => None,
        });
        let ledger = match (by_spec, get(&arguments.ledger, "SACKER_LEDGER")) {
            (None, _) => None,
            (Some(_), Some(uri)) => Some(uri.parse()?),
            (Some(spec), None) => {
                return Err(Error::invalid(format!("no ledger is set, and '{spec}' needs one"))
                    .with_hint("give --ledger or set SACKER_LEDGER; a pinned spec needs none"));
            }
        };
        let patience = Patience::default();
        let stall = get(&arguments.stall_timeout, "SACKER_STALL_TIMEOUT")
            .map_or(Ok(patience.stall), |text| duration("stall time-out", &text))?;
        Ok(Self {
            requests,
            ledger,
            store: store.parse()?,
            mode: get(&arguments.mode, "SACKER_MODE").map(|text| mode(&text)).transpose()?,
            timeout: get(&arguments.timeout, "SACKER_TIMEOUT")
                .map_or(Ok(TIMEOUT), |text| duration("time-out", &text))?,
            patience: Patience { stall, ..patience },
            instance_metadata: arguments.instance_metadata || flag(environment, "SACKER_INSTANCE_METADATA")?,
            extract: arguments.extract || flag(environment, "SACKER_EXTRACT")?,
            cache: cache(arguments, environment)?,
            fsync: arguments.fsync || flag(environment, "SACKER_FSYNC")?,
        })
    }
}

/// What the command line names; if it names nothing, what the environment names.
fn requests(arguments: &Arguments, environment: &Environment) -> Result<Vec<Request>> {
    let to = arguments.to.clone().or_else(|| environment.get("SACKER_TO").map(PathBuf::from));
    let mut requests = Vec::new();
    for spec in &arguments.specs {
        requests.push(Request::parse(spec, to.as_deref())?);
    }
    requests.extend(pinned(arguments.pin.as_deref(), arguments.pin_file.as_deref(), to.as_deref())?);
    if requests.is_empty() {
        let pin_file = environment.get("SACKER_PIN_FILE").map(Path::new);
        requests.extend(pinned(environment.get("SACKER_PIN"), pin_file, to.as_deref())?);
    }
    if requests.is_empty() {
        return Err(Error::invalid("nothing is named that could be fetched")
            .with_hint("give <package>@<version, tag or latest>, --pin or --pin-file; see --help"));
    }
    Ok(requests)
}

fn pinned(pin: Option<&str>, file: Option<&Path>, to: Option<&Path>) -> Result<Option<Request>> {
    let what = match (pin, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("a pinned spec and a file with one are given; give only one of them"));
        }
        // Kubernetes may hand over the line with its end.
        (Some(pin), None) => {
            check_replaced(pin.trim())?;
            What::Pinned(pin.trim().parse()?)
        }
        (None, Some(file)) => What::PinFile(file.to_owned()),
    };
    match (to, &what) {
        (Some(to), _) => Ok(Some(Request { what, to: to.to_owned() })),
        (None, What::PinFile(file)) => Err(no_destination(&file.display())),
        (None, _) => Err(no_destination(&pin.unwrap_or_default().trim())),
    }
}

/// The cache and its size.
fn cache(arguments: &Arguments, environment: &Environment) -> Result<Option<(PathBuf, u64)>> {
    let directory = arguments.cache.clone().or_else(|| environment.get("SACKER_CACHE").map(PathBuf::from));
    let size = arguments.cache_size.as_deref().or_else(|| environment.get("SACKER_CACHE_SIZE"));
    let size = size.map_or(Ok(CACHE_SIZE), bytes)?;
    match directory {
        Some(directory) if !directory.is_absolute() => {
            let rule = format!("the cache '{}' is no absolute path", directory.display());
            Err(Error::invalid(rule)
                .with_hint("mount a volume for it, such as a hostPath, and name its mountPath"))
        }
        directory => Ok(directory.map(|directory| (directory, size))),
    }
}

/// A size as Kubernetes writes it: `500Mi`, `10Gi`, or plain bytes.
fn bytes(text: &str) -> Result<u64> {
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor: Option<u64> = match unit {
        "" => Some(1),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        "Ti" => Some(1 << 40),
        _ => None,
    };
    factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor)).ok_or_else(|| {
        Error::invalid(format!("size '{}' is not bytes, such as '500Mi' or '10Gi'", text.escape_debug()))
    })
}

fn duration(what: &str, text: &str) -> Result<Duration> {
    let broken =
        || Error::invalid(format!("{what} '{}' is not a time such as '90s' or '10m'", text.escape_debug()));
    let signed: jiff::SignedDuration = text.parse().map_err(|_| broken())?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(broken()),
    }
}

fn mode(text: &str) -> Result<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode != 0 && mode & !0o755 == 0 => Ok(mode),
        _ => Err(Error::invalid(format!(
            "mode '{}' is not allowed: give octal digits within 0755, such as '0555'",
            text.escape_debug()
        ))),
    }
}

fn flag(environment: &Environment, variable: &str) -> Result<bool> {
    match environment.get(variable) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => {
            Err(Error::invalid(format!("{variable} is 'true' or 'false', not '{}'", other.escape_debug())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    const STORE: (&str, &str) = ("SACKER_STORE", "s3://blobs");
    const LEDGER: (&str, &str) = ("SACKER_LEDGER", "dynamo://us-east-1/sacker");

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn specs(specs: &[&str]) -> Arguments {
        Arguments { specs: specs.iter().map(|&spec| spec.to_owned()).collect(), ..Arguments::default() }
    }

    fn refusal(arguments: &Arguments, pairs: &[(&str, &str)]) -> String {
        Settings::resolve(arguments, &environment(pairs)).expect_err("a refusal").to_string()
    }

    #[test]
    fn flags_win_over_variables() {
        let arguments = Arguments {
            store: vec!["s3://other".to_owned(), "file:///spare".to_owned()],
            to: Some("/flag".into()),
            timeout: Some("90s".to_owned()),
            ..specs(&["frontend@live"])
        };
        let pairs = [STORE, LEDGER, ("SACKER_TO", "/variable"), ("SACKER_TIMEOUT", "1h")];
        let settings = Settings::resolve(&arguments, &environment(&pairs)).expect("settings");
        assert_eq!(settings.store.to_string(), "s3://other file:///spare");
        assert_eq!(settings.ledger.map(|uri| uri.to_string()).as_deref(), Some(LEDGER.1));
        assert_eq!(settings.requests[0].to, Path::new("/flag"));
        assert_eq!(settings.timeout, Duration::from_secs(90));
    }

    #[test]
    fn everything_can_come_from_the_environment() {
        let pin = format!("frontend@23+sha256:{}\n", Sha256::of(b"x"));
        let pairs = [
            STORE,
            ("SACKER_PIN", pin.as_str()),
            ("SACKER_TO", "/artifacts/app.jar"),
            ("SACKER_MODE", "0555"),
            ("SACKER_STALL_TIMEOUT", "5s"),
            ("SACKER_INSTANCE_METADATA", "true"),
        ];
        let settings = Settings::resolve(&specs(&[]), &environment(&pairs)).expect("settings");
        assert!(matches!(settings.requests[0].what, What::Pinned(_)));
        assert_eq!((settings.mode, settings.instance_metadata), (Some(0o555), true));
        assert_eq!(settings.patience.stall, Duration::from_secs(5));
        assert_eq!(settings.timeout, TIMEOUT);
    }

    #[test]
    fn pinned_specs_need_no_ledger_and_do_not_look_at_it() {
        let pin = format!("frontend@23+sha256:{}=/x", Sha256::of(b"x"));
        let pairs = [STORE, ("SACKER_LEDGER", "nonsense")];
        let settings = Settings::resolve(&specs(&[&pin]), &environment(&pairs)).expect("settings");
        assert_eq!(settings.ledger, None);
        let mixed = refusal(&specs(&[&pin, "b@live=/y"]), &pairs);
        assert!(mixed.contains("'nonsense'"), "{mixed}");
    }

    #[test]
    fn the_command_line_hides_the_pins_of_the_environment() {
        let pairs = [STORE, LEDGER, ("SACKER_PIN", "$(UNSET)")];
        let settings = Settings::resolve(&specs(&["a@live=/x"]), &environment(&pairs)).expect("settings");
        assert_eq!(settings.requests.len(), 1);
    }

    #[test]
    fn refusals_say_what_is_missing_or_wrong() {
        let to = ("SACKER_TO", "/x");
        let spec = || specs(&["a@live"]);
        for (arguments, pairs, message) in [
            (specs(&[]), &[STORE, LEDGER, to][..], "nothing is named"),
            (spec(), &[STORE, LEDGER], "no destination is given for 'a@live'"),
            (spec(), &[LEDGER, to], "no store is set"),
            (spec(), &[STORE, to], "no ledger is set, and 'a@live' needs one"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_TIMEOUT", "10")], "time-out '10' is not a time"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_TIMEOUT", "-1s")], "time-out '-1s' is not a time"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_STALL_TIMEOUT", "0s")], "stall time-out '0s' is not"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_MODE", "0777")], "mode '0777' is not allowed"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_MODE", "rwx")], "mode 'rwx' is not allowed"),
            (spec(), &[STORE, LEDGER, to, ("SACKER_INSTANCE_METADATA", "yes")], "'true' or 'false'"),
            (specs(&[]), &[STORE, to, ("SACKER_PIN", "$(UNSET)")], "'$(UNSET)' was not replaced by a value"),
            (specs(&[]), &[STORE, to, ("SACKER_PIN", "x"), ("SACKER_PIN_FILE", "y")], "give only one"),
            (
                specs(&[]),
                &[STORE, ("SACKER_PIN_FILE", "/etc/live")],
                "no destination is given for '/etc/live'",
            ),
        ] {
            let found = refusal(&arguments, pairs);
            assert!(found.contains(message), "{found}");
        }
    }

    #[test]
    fn the_termination_log_is_known_whatever_is_wrong() {
        let usual = TerminationLog::Usual(TERMINATION_LOG.into());
        assert_eq!(TerminationLog::of(None, &Environment::default()), usual);
        let variable = environment(&[("SACKER_TERMINATION_LOG", "/v")]);
        assert_eq!(TerminationLog::of(None, &variable), TerminationLog::Asked("/v".into()));
        let flag = Arguments { termination_log: Some("/f".into()), ..Arguments::default() };
        assert_eq!(TerminationLog::of(Some(&flag), &variable), TerminationLog::Asked("/f".into()));
    }
}
