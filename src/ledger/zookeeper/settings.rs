//! Where the ensemble is and who we are to it: the URI, and credentials from the environment.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use zookeeper_client::{Acls, Client, Connector, CreateMode, CreateOptions, TlsOptions};

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::model::{ZooKeeperAcl, ZooKeeperLocation};
use crate::names::is_of_link_local;

const USER: &str = "SACKER_ZOOKEEPER_USER";
const PASSWORD: &str = "SACKER_ZOOKEEPER_PASSWORD";
const AUTHORITIES: &str = "SACKER_ZOOKEEPER_CA";
const CERTIFICATE: &str = "SACKER_ZOOKEEPER_CERTIFICATE";
const KEY: &str = "SACKER_ZOOKEEPER_KEY";

/// Long enough for a pause of either side. Nothing hangs on a session's life, so that a longer one has no use: a server that
/// is silent for two fifths of it is given up.
const SESSION: Duration = Duration::from_secs(10);

/// Why no session is asked for.
const LINK_LOCAL: &str =
    "a server's name is that of a link-local address, where clouds keep machine credentials";

/// What a ledger is opened with.
pub(super) struct Settings {
    /// The ledger's URI.
    pub(super) uri: String,
    /// `host:port`, separated by commas.
    pub(super) servers: String,
    /// The node that the ledger is below.
    pub(super) root: String,
    user: Option<String>,
    pub(super) is_encrypted: bool,
    acl: ZooKeeperAcl,
    /// Holds the credentials.
    connector: Connector,
}

impl Settings {
    /// Reads the files of certificates, and makes no request.
    ///
    /// # Errors
    /// `Invalid` where variables are missing or contradict each other; `Local` where a file cannot be read.
    pub(super) fn new(location: &ZooKeeperLocation, environment: &Environment) -> Result<Self> {
        let mut connector = Client::connector().with_session_timeout(SESSION).with_fail_eagerly();
        let user = match (environment.get(USER), environment.get(PASSWORD)) {
            (Some(user), Some(_)) if user.contains(':') => {
                return Err(Error::invalid(format!("{USER} must not contain ':'")));
            }
            (Some(user), Some(password)) => {
                connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
                Some(user.to_owned())
            }
            (None, None) => None,
            (Some(_), None) => return Err(missing(PASSWORD, &format!("{USER} is set"))),
            (None, Some(_)) => return Err(missing(USER, &format!("{PASSWORD} is set"))),
        };
        let mut has_certificate = false;
        if location.tls {
            let (options, has_identity) = tls(environment)?;
            connector = connector.with_tls(options);
            has_certificate = has_identity;
        }
        if location.acl == ZooKeeperAcl::Creator && user.is_none() && !has_certificate {
            return Err(missing(USER, "acl=creator gives nodes to whoever creates them")
                .with_hint(format!("set {USER} and {PASSWORD}, or leave acl=creator out")));
        }
        Ok(Self {
            uri: location.to_string(),
            servers: location.servers.join(","),
            root: location.root.clone(),
            user,
            is_encrypted: location.tls,
            acl: location.acl,
            connector,
        })
    }

    /// A new session, with no server whose name is that of a link-local address. One attempt: each server is tried once. Boxed, since making one takes much more room than using it.
    pub(super) async fn connect(&self) -> Result<Client, zookeeper_client::Error> {
        for server in self.servers.split(',') {
            let name = server.rsplit_once(':').map_or(server, |(name, _)| name);
            if is_of_link_local(name.trim_matches(['[', ']'])).await {
                return Err(zookeeper_client::Error::BadArguments(&LINK_LOCAL));
            }
        }
        let connector = self.connector.clone();
        if self.is_encrypted {
            Box::pin(connector.secure_connect(&self.servers)).await
        } else {
            Box::pin(connector.connect(&self.servers)).await
        }
    }

    /// How nodes are created.
    pub(super) fn options(&self) -> CreateOptions<'static> {
        CreateMode::Persistent.with_acls(match self.acl {
            ZooKeeperAcl::Open => Acls::anyone_all(),
            ZooKeeperAcl::Creator => Acls::creator_all(),
        })
    }

    /// A node as messages name it.
    pub(super) fn place(&self, path: &str) -> String {
        format!("zk://{}{path}", self.servers)
    }

    /// What to do where a right is missing.
    pub(super) fn whose_right(&self) -> String {
        match &self.user {
            Some(user) => format!("user '{user}' lacks the right, or {PASSWORD} is another user's"),
            None => format!("say who you are: {USER} and {PASSWORD}"),
        }
    }

    /// What to do where no server answers.
    pub(super) fn how_to_reach(&self) -> String {
        let servers = &self.servers;
        if self.is_encrypted {
            format!("check that ZooKeeper listens for TLS on {servers} with a certificate of {AUTHORITIES}")
        } else {
            format!("check that ZooKeeper listens on {servers}, without TLS; else say tls=true")
        }
    }
}

/// Never the credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("uri", &self.uri).field("user", &self.user).finish_non_exhaustive()
    }
}

fn missing(variable: &str, why: &str) -> Error {
    Error::invalid(format!("{variable} is not set, but {why}"))
}

/// Whom to trust, and who we are; whether we are anybody.
fn tls(environment: &Environment) -> Result<(TlsOptions, bool)> {
    let Some(authorities) = environment.get(AUTHORITIES) else {
        return Err(missing(AUTHORITIES, "tls=true needs it").with_hint(format!(
            "set {AUTHORITIES} to the file of the certificates that servers are checked by"
        )));
    };
    let broken = |path: &str, error| {
        Error::invalid(format!("'{path}' does not hold what TLS needs")).with_source(error)
    };
    let options = TlsOptions::new().with_pem_ca(&file(authorities)?);
    let options = options.map_err(|error| broken(authorities, error))?;
    match (environment.get(CERTIFICATE), environment.get(KEY)) {
        (None, None) => Ok((options, false)),
        (Some(certificate), Some(key)) => {
            let options = options.with_pem_identity(&file(certificate)?, &file(key)?);
            Ok((options.map_err(|error| broken(certificate, error))?, true))
        }
        (Some(_), None) => Err(missing(KEY, &format!("{CERTIFICATE} is set"))),
        (None, Some(_)) => Err(missing(CERTIFICATE, &format!("{KEY} is set"))),
    }
}

fn file(path: &str) -> Result<String> {
    let path = Path::new(path);
    std::fs::read_to_string(path).map_err(|error| Error::local("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Meaning;
    use crate::model::LedgerUri;

    fn settings(uri: &str, variables: &[(&str, &str)]) -> Result<Settings> {
        let LedgerUri::ZooKeeper(location) = uri.parse()? else { panic!("{uri}") };
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::new(&location, &pairs.collect())
    }

    #[test]
    fn half_of_a_pair_is_refused() {
        let encrypted = "zk://a/b?tls=true";
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (uri, variables) in [
            ("zk://a/b", &[(USER, "u")][..]),
            ("zk://a/b", &[(PASSWORD, "secret")]),
            ("zk://a/b", &[(USER, "u:v"), (PASSWORD, "secret")]),
            ("zk://a/b?acl=creator", &[]),
            (encrypted, &[]),
            (encrypted, &[(AUTHORITIES, file)]),
        ] {
            let error = settings(uri, variables).expect_err("refused");
            assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error:?}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let error = settings(encrypted, &[(AUTHORITIES, "/none")]).expect_err("no file");
        assert!(matches!(error.meaning(), Meaning::Local { .. }), "{error:?}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = settings("zk://a/b?acl=creator", &[(USER, "ann"), (PASSWORD, "secret")]);
        let settings = settings.expect("settings");
        let shown = format!("{settings:?} {:?} {}", settings.connector, settings.whose_right());
        assert!(shown.contains("ann") && !shown.contains("secret"), "{shown}");
        assert!(!shown.contains("115, 101, 99, 114, 101, 116"), "{shown}");
    }
}
