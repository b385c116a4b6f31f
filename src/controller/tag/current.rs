//! A look at the live object before the ledger is changed for it: the cache may be behind, above all that of a standby whose
//! watch had fallen silent before it took over.
//!
//! The compare-and-swap of the ledger cannot notice that: it protects what is in the ledger, and the ledger was read a
//! moment ago. An old wish would move a tag back, and the pass that sees the new one would move it forth again.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::ObjectMeta;

use crate::api::SackerTag;
use crate::controller::context::Context;
use crate::controller::error::Failure;

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What has become of the object that the cache shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there with the same spec.
    Current,
    /// It has another spec by now, or is being deleted.
    Changed,
    /// There is another of its name: it was deleted and made again.
    Replaced,
    /// There is none of its name.
    Gone,
}

/// Asks the API server.
///
/// # Errors
/// `Api`, `TimedOut`.
pub(super) async fn look(context: &Context, object: &SackerTag) -> Result<Seen, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<SackerTag> = Api::namespaced(context.client.clone(), &namespace);
    let name = object.name_any();
    let live = tokio::time::timeout(DEADLINE, api.get_metadata_opt(&name))
        .await
        .map_err(|_| Failure::TimedOut("read the object"))?
        .map_err(Failure::api("read the object"))?;
    Ok(compare(&object.metadata, live.map(|live| live.metadata).as_ref()))
}

fn compare(cached: &ObjectMeta, live: Option<&ObjectMeta>) -> Seen {
    match live {
        None => Seen::Gone,
        Some(live) if live.uid != cached.uid => Seen::Replaced,
        Some(live) if live.generation != cached.generation => Seen::Changed,
        Some(live) if live.deletion_timestamp != cached.deletion_timestamp => Seen::Changed,
        Some(_) => Seen::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn an_object_is_its_uid_and_its_spec_its_generation() {
        let object = |uid: &str, generation| ObjectMeta {
            uid: Some(uid.into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let cached = object("a", 1);
        let relabelled = ObjectMeta { resource_version: Some("9".into()), ..object("a", 1) };
        let going =
            ObjectMeta { deletion_timestamp: Some(Time(jiff::Timestamp::UNIX_EPOCH)), ..object("a", 1) };
        for (live, seen) in [
            (Some(relabelled), Seen::Current),
            (Some(object("a", 2)), Seen::Changed),
            (Some(going), Seen::Changed),
            (Some(object("b", 1)), Seen::Replaced),
            (None, Seen::Gone),
        ] {
            assert_eq!(compare(&cached, live.as_ref()), seen, "{live:?}");
        }
    }
}
