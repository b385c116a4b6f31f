//! Where the ledger and the store are: flags, environment and file, resolved once into plain data that remembers
//! where each value came from.
//!
//! The order is fixed: a flag, then `SACKER_LEDGER` / `SACKER_STORE`, then one file (the one named by `$SACKER_CONFIG`, else
//! `$XDG_CONFIG_HOME/sacker/config.json` or `config.yaml`, else `~/.sacker.json`). With none of them both are directories
//! below `$XDG_DATA_HOME/sacker`. A file in the current directory is never read: whoever prepares a directory must not
//! choose where somebody else's `sacker` writes. A store may be several: a list in a file, the flag repeated, URIs separated by
//! white space in the variable. Not responsible for credentials (the AWS chain), nor for opening
//! anything.

use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::environment::Environment;
use crate::error::{Error, Result, io_reason};
use crate::model::{FileLocation, LedgerUri, StoreUri, StoreUris};

/// The most bytes that are read of a configuration file. Real ones have a few lines; the limit is for
/// `SACKER_CONFIG=/dev/zero`.
const FILE_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line, such as `--ledger`.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "'{}'", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// What the command line says, as typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags<'a> {
    /// `--ledger`
    pub ledger: Option<&'a str>,
    /// `--store`, as often as given
    pub store: &'a [String],
}

/// The resolved configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    ledger: Option<Setting<LedgerUri>>,
    store: Option<Setting<StoreUris>>,
}

impl Configuration {
    /// Resolves flags, environment and file. The file is read only if it can still decide something.
    ///
    /// # Errors
    /// `Invalid` for a URI that breaks a rule, naming where it stands, and for a file that exists and cannot be read or
    /// parsed, naming the file and the line.
    pub fn resolve(flags: Flags<'_>, environment: &Environment) -> Result<Self> {
        let mut ledger = typed("--ledger", flags.ledger, "SACKER_LEDGER", environment)?;
        let stores = (!flags.store.is_empty()).then(|| flags.store.join(" "));
        let mut store = typed("--store", stores.as_deref(), "SACKER_STORE", environment)?;
        if (ledger.is_none() || store.is_none())
            && let Some(path) = find_file(environment)?
        {
            let keys = read_file(&path)?;
            let from_file = || Origin::File(path.clone());
            ledger = ledger.or(keys.ledger.map(|uri| Setting { value: uri.0, origin: from_file() }));
            store = store.or(keys.store.map(|uris| Setting { value: uris.0, origin: from_file() }));
        }
        // Both or none: a shared ledger beside a private store would record versions that nobody else can fetch.
        if let (None, None, Some(directory)) = (&ledger, &store, data_directory(environment)) {
            let place = |name: &str| FileLocation::at(directory.join(name));
            ledger = Some(Setting { value: LedgerUri::File(place("ledger")), origin: Origin::Default });
            store = Some(Setting { value: StoreUri::File(place("store")).into(), origin: Origin::Default });
        }
        Ok(Self { ledger, store })
    }

    /// The ledger.
    ///
    /// # Errors
    /// `Invalid` when none is configured.
    pub fn ledger(&self) -> Result<&Setting<LedgerUri>> {
        let other = self.store.as_ref().map(|store| ("store", &store.origin));
        self.ledger.as_ref().ok_or_else(|| unset("ledger", other))
    }

    /// The store.
    ///
    /// # Errors
    /// `Invalid` when none is configured.
    pub fn store(&self) -> Result<&Setting<StoreUris>> {
        let other = self.ledger.as_ref().map(|ledger| ("ledger", &ledger.origin));
        self.store.as_ref().ok_or_else(|| unset("store", other))
    }
}

fn unset(wanted: &'static str, other: Option<(&'static str, &Origin)>) -> Error {
    let message = match other {
        Some((other, origin)) => format!("no {wanted} is configured, only a {other} (by {origin})"),
        None => format!("no {wanted} is configured, and without HOME there is no place for a local one"),
    };
    let variable = wanted.to_uppercase();
    Error::invalid(message)
        .with_hint(format!("give --{wanted} URI, set SACKER_{variable}, or see 'sacker help config'"))
}

/// The value of a flag, else of a variable.
fn typed<T: FromStr<Err = Error>>(
    flag: &'static str,
    given: Option<&str>,
    variable: &'static str,
    environment: &Environment,
) -> Result<Option<Setting<T>>> {
    let (text, origin) = match (given, environment.get(variable)) {
        (Some(text), _) => (text, Origin::Flag(flag)),
        (None, Some(text)) => (text, Origin::Variable(variable)),
        (None, None) => return Ok(None),
    };
    match text.parse() {
        Ok(value) => Ok(Some(Setting { value, origin })),
        Err(error) => Err(Error::invalid(format!("{origin}: {error}")).with_hint("see 'sacker help config'")),
    }
}

/// `$<variable>` if it is an absolute path (the XDG rules ignore others), else `$HOME/<fallback>`.
fn directory(environment: &Environment, variable: &str, fallback: &str) -> Option<PathBuf> {
    let absolute = |text: &str| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    environment
        .get(variable)
        .and_then(absolute)
        .or_else(|| environment.get("HOME").and_then(absolute).map(|home| home.join(fallback)))
}

fn data_directory(environment: &Environment) -> Option<PathBuf> {
    directory(environment, "XDG_DATA_HOME", ".local/share").map(|data| data.join("sacker"))
}

/// Whether something is at `path`, be it a link to nothing.
fn is_there(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(unusable(path, &io_reason(&error))),
    }
}

/// The one configuration file that counts.
fn find_file(environment: &Environment) -> Result<Option<PathBuf>> {
    if let Some(named) = environment.get("SACKER_CONFIG") {
        let path = PathBuf::from(named);
        if is_there(&path)? {
            return Ok(Some(path));
        }
        return Err(unusable(&path, "SACKER_CONFIG names it, and it does not exist"));
    }
    if let Some(config) = directory(environment, "XDG_CONFIG_HOME", ".config") {
        let (json, yaml) = (config.join("sacker/config.json"), config.join("sacker/config.yaml"));
        match (is_there(&json)?, is_there(&yaml)?) {
            (true, true) => {
                return Err(unusable(&json, &format!("'{}' is there too; remove one", yaml.display())));
            }
            (true, false) => return Ok(Some(json)),
            (false, true) => return Ok(Some(yaml)),
            (false, false) => {}
        }
    }
    let Some(home) = environment.get("HOME") else { return Ok(None) };
    let path = Path::new(home).join(".sacker.json");
    Ok(is_there(&path)?.then_some(path))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::invalid(format!("cannot use the configuration file '{}': {why}", path.display()))
        .with_hint("see 'sacker help config'")
}

/// The keys of a file. A key that is not here is refused, so that a misspelt one cannot send data elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    #[serde(default)]
    ledger: Option<Uri<LedgerUri>>,
    #[serde(default)]
    store: Option<Uris>,
}

/// One store, or a list of them.
#[derive(Debug)]
struct Uris(StoreUris);

impl<'de> Deserialize<'de> for Uris {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Uris;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URI in quotes, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uris, E> {
                let uri: StoreUri = text.parse().map_err(E::custom)?;
                Ok(Uris(uri.into()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Uris, A::Error> {
                let mut uris = Vec::new();
                while let Some(uri) = list.next_element::<Uri<StoreUri>>()? {
                    uris.push(uri.0);
                }
                StoreUris::new(uris).map(Uris).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Debug)]
struct Uri<T>(T);

/// Parses inside the visitor: the JSON reader attaches the line where the text stands only there.
impl<'de, T: FromStr<Err = Error>> Deserialize<'de> for Uri<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<T: FromStr<Err = Error>> de::Visitor<'_> for Visitor<T> {
            type Value = Uri<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URI in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uri<T>, E> {
                text.parse().map(Uri).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor(PhantomData))
    }
}

fn read_file(path: &Path) -> Result<FileKeys> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unusable(path, &io_reason(&error)))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(unusable(path, "it has more than 1 MiB"));
    }
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let parsed = if is_yaml { parse_yaml(&bytes) } else { parse_json(&bytes) };
    parsed.map_err(|why| unusable(path, &why))
}

fn parse_json(bytes: &[u8]) -> Result<FileKeys, String> {
    // serde would take a list for the keys in their order.
    if let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_whitespace())
        && bytes[start] != b'{'
    {
        return Err(at_line(line_of(bytes, start), "expected an object with the keys 'ledger' and 'store'"));
    }
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let end = text.rfind(" at line ").unwrap_or(text.len());
        let why = if error.is_eof() { "the file ends too early" } else { &text[..end] };
        at_line(error.line() as u64, why)
    })
}

fn parse_yaml(bytes: &[u8]) -> Result<FileKeys, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| at_line(line_of(bytes, error.valid_up_to()), "it is not UTF-8"))?;
    // Only comments: a file that somebody prepared and has not filled in yet.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(FileKeys::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let text = error.without_snippet().to_string();
        let end = text.rfind(" at line ").unwrap_or(text.len());
        at_line(line, &text[..end])
    })
}

/// Both readers on any bytes.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _any = (parse_json(bytes).is_ok(), parse_yaml(bytes).is_ok());
}

/// The line, from 1, in which the byte at `position` stands.
fn line_of(bytes: &[u8], position: usize) -> u64 {
    bytes[..position].split(|byte| *byte == b'\n').count() as u64
}

/// serde's words in ours: a `field` is a key, and names stand in plain quotes.
fn at_line(line: u64, why: &str) -> String {
    let why = why.replace(" field `", " key `").replace('`', "'");
    if line == 0 { why } else { format!("line {line}: {why}") }
}

#[cfg(test)]
mod tests;
