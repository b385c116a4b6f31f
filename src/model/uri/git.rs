//! A ledger in a git repository.

use std::fmt;
use std::path::PathBuf;

use super::parts::{Parts, write_query};
use crate::error::Result;

/// The branch that holds the ledger where the URI names none.
const BRANCH: &str = "main";

/// How the repository is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GitRemote {
    /// A bare repository in a local directory.
    File(PathBuf),
    /// Through ssh: `[user@]host[:port]` and the absolute path there.
    Ssh {
        /// The user to log in as, where it is not the caller.
        user: Option<String>,
        /// `host[:port]`
        host: String,
        /// Begins with `/`.
        path: String,
    },
    /// Through smart HTTP.
    Http {
        /// False only for this very machine.
        is_secure: bool,
        /// `host[:port]`
        host: String,
        /// Begins with `/`.
        path: String,
    },
}

/// `git+file:///<path>`, `git+ssh://[user@]<host>/<path>`, `git+https://<host>/<path>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitLocation {
    /// The repository.
    pub remote: GitRemote,
    /// The branch whose tree is the ledger; nothing else may be in it.
    pub branch: String,
}

impl GitLocation {
    /// The repository as the git command line takes it. Never begins with `-`.
    pub fn url(&self) -> String {
        match &self.remote {
            GitRemote::File(path) => format!("file://{}", path.display()),
            GitRemote::Ssh { user: None, host, path } => format!("ssh://{host}{path}"),
            GitRemote::Ssh { user: Some(user), host, path } => format!("ssh://{user}@{host}{path}"),
            GitRemote::Http { is_secure: true, host, path } => format!("https://{host}{path}"),
            GitRemote::Http { is_secure: false, host, path } => format!("http://{host}{path}"),
        }
    }
}

/// The first part of the scheme of every git URI.
pub(super) const SCHEME: &str = "git+";

pub(super) fn parse(mut parts: Parts<'_>) -> Result<GitLocation> {
    let path = format!("/{}", parts.components()?.join("/"));
    let remote = match &parts.scheme[SCHEME.len()..] {
        "file" if parts.authority.is_empty() => GitRemote::File(PathBuf::from(path)),
        "file" => return Err(parts.broken("it must be git+file:///<absolute path>")),
        "ssh" => {
            let (user, host) = match parts.authority.split_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, parts.authority),
            };
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if user
                .is_some_and(|user| user.is_empty() || user.starts_with('-') || !user.bytes().all(is_plain))
            {
                return Err(parts.broken("a user is letters, digits, '.', '_' and '-'"));
            }
            let host = parts.host(host, None)?;
            GitRemote::Ssh { user: user.map(str::to_owned), host, path }
        }
        "https" => GitRemote::Http { is_secure: true, host: parts.host(parts.authority, None)?, path },
        "http" => {
            let host = parts.host(parts.authority, None)?;
            if !is_loopback(&host) {
                return Err(parts.broken("git+http:// is for this machine only; use git+https://"));
            }
            GitRemote::Http { is_secure: false, host, path }
        }
        _ => {
            return Err(parts.broken("a git ledger is git+file://, git+ssh:// or git+https://"));
        }
    };
    let branch = parts.take("branch").unwrap_or_else(|| BRANCH.to_owned());
    if !is_branch(&branch) {
        return Err(parts.broken("branch is no name of a branch"));
    }
    parts.finish(GitLocation { remote, branch }, "branch")
}

/// The rules of git-check-ref-format(1) that matter for plain names.
fn is_branch(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let is_component = |part: &str| {
        let is_dotted = part.starts_with('.') || part.ends_with('.') || part.contains("..");
        !part.is_empty() && !is_dotted && part.strip_suffix(".lock").is_none()
    };
    name.len() <= 200
        && !name.starts_with('-')
        && name != "HEAD"
        && name.bytes().all(is_plain)
        && name.split('/').all(is_component)
}

fn is_loopback(host: &str) -> bool {
    let Ok(url) = url::Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl fmt::Display for GitLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.url())?;
        write_query(f, &[("branch", (self.branch != BRANCH).then_some(self.branch.as_str()))])
    }
}
