//! Names, versions, tags, events: the vocabulary of sacker, and the pure decisions about it.
//!
//! No I/O, no clock, no environment: time enters as an argument. Everything else depends on this module and it
//! depends on nothing but [`crate::error`].

mod access;
mod at;
mod digest;
#[cfg(feature = "cli")]
mod earlier;
mod event;
mod glob;
mod name;
mod record;
mod spec;
mod tag;
pub mod time;
mod uri;
mod version;
mod view;

pub use access::{
    AccessRule, Denial, LabelSelector, SelectorOperator, SelectorRequirement, Verb, check_access,
};
pub use at::{NewestAt, TagAt, added_at, newest_at, tag_at};
pub use digest::{Hasher, Sha256};
#[cfg(feature = "cli")]
pub use earlier::earlier;
pub use event::{ChainBreak, Event, EventKind, EventSource, Hold, verify_chain};
pub use glob::Glob;
#[cfg(feature = "cli")]
pub(crate) use name::shown_in_full;
pub use name::{PackageName, TagName};
pub use record::{NewVersion, Removal, VersionRecord, check_basename, safe_mode};
pub use spec::{PinnedSpec, Spec};
pub use tag::{
    Actor, Change, Claim, Current, Expected, Next, TagChange, TagState, adopt_legacy, check_expected,
    next_event,
};
pub use uri::{
    DynamoLocation, FileLocation, GitLocation, GitRemote, HdfsLocation, LedgerUri, Numbering, S3Location,
    StoreUri, StoreUris, ZooKeeperAcl, ZooKeeperLocation, is_link_local,
};
pub use version::Version;
pub use view::{PackageView, Resolved, TagView};
