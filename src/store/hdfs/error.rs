//! From an HDFS failure to its [`Meaning`]: by the class of the exception where the NameNode threw one.
//!
//! Not responsible for what is no failure to the caller: [`Refused`] keeps apart what is absent and what is there already.

use std::io::ErrorKind;

use hdfs_native::HdfsError;

use crate::error::{Error, Meaning, Missing, io_reason};

/// A request that was not carried out.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no such file, or no directory for it.
    Absent(Error),
    /// There is such a file already.
    Exists(Error),
    /// For any other reason.
    Otherwise(Error),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Absent(error) | Refused::Exists(error) | Refused::Otherwise(error) => error,
        }
    }
}

impl Refused {
    /// Whether it may have been carried out, or may be on another attempt.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Otherwise(error) if error.is_transient())
    }
}

/// The class of an exception without its package, and the first line of what it says: stack traces follow.
fn exception(error: &HdfsError) -> Option<(&str, &str)> {
    let (HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message)) = error else {
        return None;
    };
    let name = class.rsplit(['.', '$']).next().unwrap_or(class);
    Some((name, first_line(message)))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// Whether the request did not reach a NameNode that serves it, so that it can be repeated whatever it was.
pub(super) fn was_not_served(error: &HdfsError) -> bool {
    match error {
        HdfsError::IOError(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        _ => matches!(exception(error), Some(("StandbyException" | "ObserverRetryOnActiveException", _))),
    }
}

/// Whether the connection broke, so that nobody knows whether the request was carried out.
pub(super) fn is_in_doubt(error: &HdfsError) -> bool {
    matches!(error, HdfsError::IOError(_))
}

/// What `error` means to whoever was at `operation` on `uri`.
pub(super) fn refused(operation: &'static str, uri: &str, error: &HdfsError) -> Refused {
    let words = words(error);
    let with = |meaning: Meaning| Error::new(meaning, operation).with_key(uri).with_source(words.clone());
    let absent = || {
        let missing = Missing::Backend(format!("'{uri}'"));
        Refused::Absent(with(Meaning::NotFound(missing)).with_hint("create the store with 'sacker init'"))
    };
    let exists = || Refused::Exists(with(Meaning::AlreadyExists { what: format!("'{uri}'") }));
    Refused::Otherwise(match error {
        HdfsError::FileNotFound(_) => return absent(),
        HdfsError::AlreadyExists(_) => return exists(),
        HdfsError::IOError(_)
        | HdfsError::DataTransferError(_)
        | HdfsError::ChecksumError
        | HdfsError::BlocksNotFound(_)
        | HdfsError::ErasureCodingError(_) => with(Meaning::Unavailable),
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            let (action, resource) = ("authentication".to_owned(), uri.to_owned());
            with(Meaning::Denied { action, resource }).with_hint(
                "with Kerberos there must be a valid ticket ('kinit', or KRB5CCNAME), and the library libgssapi_krb5",
            )
        }
        HdfsError::InvalidPath(_)
        | HdfsError::InvalidArgument(_)
        | HdfsError::UrlParseError(_)
        | HdfsError::XmlParseError(_)
        | HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::UnsupportedFeature(_) => with(Meaning::Invalid { rule: words.clone().into() }),
        HdfsError::RPCError(..) | HdfsError::FatalRPCError(..) => {
            let (class, message) = exception(error).unwrap_or_default();
            match class {
                "FileNotFoundException" => return absent(),
                "FileAlreadyExistsException" => return exists(),
                _ => with(meaning_of(class, message, operation, uri)).with_advice(class, message),
            }
        }
        _ => with(Meaning::Other),
    })
}

fn meaning_of(class: &str, message: &str, operation: &str, uri: &str) -> Meaning {
    match class {
        "RetriableException" if message.contains("too busy") => Meaning::Throttled,
        "SafeModeException"
        | "StandbyException"
        | "RetriableException"
        | "ObserverRetryOnActiveException"
        | "NotReplicatedYetException"
        | "RecoveryInProgressException"
        // Somebody took the unfinished file for one of a dead writer.
        | "LeaseExpiredException" => Meaning::Unavailable,
        // Too few DataNodes live, or have room.
        _ if message.contains("could only be written to") => Meaning::Unavailable,
        "AccessControlException" | "AuthorizationException" | "InvalidToken" | "SaslException" => {
            // `Permission denied: user=bob, access=WRITE, inode="/a":alice:group:drwx------`
            let access = between(message, "access=", ",").unwrap_or(operation);
            let resource = between(message, "inode=\"", "\"").unwrap_or(uri);
            Meaning::Denied { action: access.to_owned(), resource: resource.to_owned() }
        }
        "InvalidPathException" => Meaning::Invalid { rule: message.to_owned().into() },
        _ => Meaning::Other,
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

trait WithAdvice {
    fn with_advice(self, class: &str, message: &str) -> Self;
}

impl WithAdvice for Error {
    /// Says what to do where the exception alone does not.
    fn with_advice(self, class: &str, message: &str) -> Self {
        match class {
            "SafeModeException" => self.with_hint(
                "the NameNode is in safe mode: it serves changes once enough DataNodes have reported, or when an \
                 administrator ends it with 'hdfs dfsadmin -safemode leave'",
            ),
            "AccessControlException" => {
                let user = between(message, "user=", ",").unwrap_or("this user");
                self.with_hint(format!(
                    "HDFS knows this client as '{user}'; HADOOP_USER_NAME or the Kerberos ticket decide that"
                ))
            }
            "NSQuotaExceededException" | "DSQuotaExceededException" | "QuotaByStorageTypeExceededException" => {
                self.with_hint(format!("a quota of the store's directory is used up: {message}"))
            }
            _ if message.contains("could only be written to") => {
                self.with_hint(format!("too few DataNodes live or have room: {message}"))
            }
            _ => self,
        }
    }
}

/// What failed, in one line and without what a library prints for its developers.
fn words(error: &HdfsError) -> String {
    match error {
        HdfsError::IOError(error) => io_reason(error),
        // Followed by every replica with all its fields.
        HdfsError::DataTransferError(text) if text.starts_with("All DataNodes failed") => {
            "no DataNode gave the bytes".to_owned()
        }
        HdfsError::RPCError(..) | HdfsError::FatalRPCError(..) => {
            let (class, message) = exception(error).unwrap_or_default();
            format!("{class}: {message}")
        }
        other => first_line(&other.to_string()).to_owned(),
    }
}

/// No answer came until the deadline; `last` is what the last attempt met.
pub(super) fn too_late(operation: &'static str, uri: &str, last: Option<&HdfsError>) -> Error {
    let why = last.map_or_else(|| "no answer in time".to_owned(), words);
    Error::new(Meaning::Unavailable, operation).with_key(uri).with_source(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn thrown(class: &str, message: &str) -> Error {
        let error = HdfsError::RPCError(class.to_owned(), message.to_owned());
        refused("store the blob", "hdfs://n/store", &error).into()
    }

    #[test]
    fn exceptions_have_the_exit_code_of_what_they_mean() {
        let safe =
            "Cannot create file/x. Name node is in safe mode.\nThe reported blocks 0 needs\n\tat org.apache";
        for (class, message, exit, hint) in [
            (
                "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
                safe,
                Exit::Unavailable,
                "safe mode",
            ),
            ("org.apache.hadoop.ipc.StandbyException", "READ is not supported", Exit::Unavailable, ""),
            ("org.apache.hadoop.ipc.RetriableException", "Server is too busy.", Exit::Unavailable, ""),
            ("java.io.FileNotFoundException", "File does not exist: /x", Exit::NotFound, "sacker init"),
            (
                "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException",
                "The DiskSpace quota of /x is exceeded: quota = 10 B",
                Exit::Other,
                "quota",
            ),
            (
                "java.io.IOException",
                "File /x could only be written to 0 of the 1 minReplication nodes. There are 0 datanode(s) running",
                Exit::Unavailable,
                "DataNodes",
            ),
            ("java.lang.IllegalStateException", "", Exit::Other, ""),
        ] {
            let error = thrown(class, message);
            assert_eq!(Exit::from(&error), exit, "{class}: {error:?}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{class}: {error:?}");
            let cause = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(!cause.contains('\n') && !cause.contains("org.apache"), "{cause}");
        }
    }

    #[test]
    fn a_refusal_names_the_right_that_is_missing_and_who_lacks_it() {
        let error = thrown(
            "org.apache.hadoop.security.AccessControlException",
            "Permission denied: user=bob, access=EXECUTE, inode=\"/store\":alice:supergroup:drwx------\n\tat x",
        );
        let denied = Meaning::Denied { action: "EXECUTE".to_owned(), resource: "/store".to_owned() };
        assert_eq!(*error.meaning(), denied);
        assert!(error.hint().is_some_and(|hint| hint.contains("'bob'")), "{error:?}");
    }

    #[test]
    fn only_what_was_not_served_is_repeated_blindly() {
        let io = |kind: ErrorKind| HdfsError::IOError(kind.into());
        assert!(was_not_served(&io(ErrorKind::ConnectionRefused)));
        assert!(!was_not_served(&io(ErrorKind::ConnectionAborted)));
        let standby = "org.apache.hadoop.ipc.StandbyException".to_owned();
        assert!(was_not_served(&HdfsError::RPCError(standby, String::new())));
    }
}
