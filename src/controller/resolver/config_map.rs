//! The published ConfigMap: what `latest` and each tag point to, for whoever reads files or environment variables.
//!
//! It is ours if its controlling owner is the SackerPackage. One that is not is never touched, whatever its content.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};

use crate::api::{MANAGED_BY, Reason, SackerPackage};
use crate::controller::context::Context;
use crate::controller::error::{Failure, is_status};
use crate::crash_point::around;
use crate::model::{PackageView, VersionRecord};

/// Well below the 1 MiB that Kubernetes allows.
const LARGEST: usize = 768 * 1024;

/// The key of the newest version.
const LATEST: &str = "latest";

/// What became of it.
#[derive(Debug)]
pub(super) enum Published {
    /// None was asked for.
    None,
    /// It is there, under this name.
    As(String),
    /// It cannot be, for this reason.
    Refused(Reason, String),
}

/// The data of the ConfigMap for a package.
fn data(view: &PackageView) -> BTreeMap<String, String> {
    let mut data = BTreeMap::new();
    let tags = || {
        let tags = view.tags.iter().filter(|tag| tag.state.version.is_some());
        tags.filter_map(|tag| Some((tag.state.tag.as_str(), tag.record.as_deref()?)))
            .filter(|(tag, _)| is_key(tag) && *tag != LATEST)
            .chain(view.latest.as_deref().map(|record| (LATEST, record)))
    };
    for (name, record) in tags() {
        data.insert(format!("{name}.version"), record.version.to_string());
        data.insert(format!("{name}.sha256"), record.sha256.to_string());
        data.insert(format!("{name}.basename"), record.basename.clone());
    }
    // Last, so that for a tag such as `live.version` the key `<tag>` still is its pinned spec.
    data.extend(
        tags().map(|(name, record): (&str, &VersionRecord)| (name.to_owned(), record.pinned().to_string())),
    );
    data
}

/// Whether a tag of an old ledger can be a key.
fn is_key(tag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !tag.is_empty() && tag.len() <= 240 && !tag.starts_with("..") && tag != "." && tag.bytes().all(allowed)
}

/// Makes the ConfigMap what the SackerPackage asks for, and removes one that it asked for before.
///
/// # Errors
/// `Api`, `NotLeading`.
pub(super) async fn publish(
    object: &SackerPackage,
    context: &Context,
    view: &PackageView,
) -> Result<Published, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    let wanted = object.spec.publish.as_ref().and_then(|publish| publish.config_map.as_deref());
    remove_others(object, context, &api, &namespace, wanted).await?;
    let Some(name) = wanted else { return Ok(Published::None) };
    let data = data(view);
    let size: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > LARGEST {
        let message = format!("the ConfigMap would have {size} bytes; {LARGEST} are allowed: remove tags");
        return Ok(Published::Refused(Reason::ConfigMapTooLarge, message));
    }
    let live = api.get_opt(name).await.map_err(Failure::api("read the ConfigMap"))?;
    let parameters =
        PostParams { field_manager: Some(crate::api::RESOLVER_MANAGER.to_owned()), dry_run: false };
    let written = match live {
        None => {
            context.may_write()?;
            let config_map = fresh(object, name, data);
            around("operator.config-map.create", api.create(&parameters, &config_map)).await
        }
        Some(live) if !is_ours(&live, object) => return Ok(foreign(name)),
        Some(live) if live.data.as_ref() == Some(&data) && has_label(&live) && live.binary_data.is_none() => {
            return Ok(Published::As(name.to_owned()));
        }
        Some(mut live) => {
            context.may_write()?;
            live.data = Some(data);
            live.binary_data = None;
            live.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
            // With the resourceVersion that was read: an edit in between is looked at again.
            around("operator.config-map.replace", api.replace(name, &parameters, &live)).await
        }
    };
    match written {
        Ok(_) => Ok(Published::As(name.to_owned())),
        Err(error) => Err(Failure::api("write the ConfigMap")(error)),
    }
}

fn foreign(name: &str) -> Published {
    let message =
        format!("ConfigMap '{name}' exists and is not ours; delete it or publish under another name");
    Published::Refused(Reason::ConfigMapNotOwned, message)
}

fn fresh(object: &SackerPackage, name: &str, data: BTreeMap<String, String>) -> ConfigMap {
    let owner = OwnerReference {
        block_owner_deletion: Some(false),
        ..object.controller_owner_ref(&()).unwrap_or_default()
    };
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: object.namespace(),
            labels: Some(BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}

fn is_ours(config_map: &ConfigMap, object: &SackerPackage) -> bool {
    owns(object, config_map.owner_references())
}

fn owns(object: &SackerPackage, owners: &[OwnerReference]) -> bool {
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == object.metadata.uid.as_ref())
}

fn has_label(config_map: &ConfigMap) -> bool {
    config_map.labels().get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1)
}

/// Removes our ConfigMaps that are not asked for any more, such as after a change of the name.
async fn remove_others(
    object: &SackerPackage,
    context: &Context,
    api: &Api<ConfigMap>,
    namespace: &str,
    wanted: Option<&str>,
) -> Result<(), Failure> {
    let others = context.config_maps.state_filter(|config_map| {
        config_map.namespace().as_deref() == Some(namespace)
            && Some(config_map.name_any().as_str()) != wanted
            && owns(object, config_map.owner_references())
    });
    for other in others {
        context.may_write()?;
        let exactly = Preconditions { uid: other.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
        let name = other.name_any();
        match around("operator.config-map.delete", api.delete(&name, &parameters)).await {
            Ok(_) => {}
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
            Err(error) => return Err(Failure::api("delete the old ConfigMap")(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Sha256, TagName, TagState, TagView, Version};

    fn record(number: i64) -> Arc<VersionRecord> {
        Arc::new(VersionRecord::example("a/b", number, b"x"))
    }

    fn tag(name: &str, number: i64) -> TagView {
        let state = TagState { tag: TagName::existing(name), version: Version::new(number), event: None };
        TagView { state: Arc::new(state), record: Some(record(number)) }
    }

    #[test]
    fn each_tag_has_its_four_keys() {
        let view = PackageView {
            latest: Some(record(3)),
            tags: vec![tag("live", 2), tag("live.version", 1), tag("no key", 1)],
            ..PackageView::default()
        };
        let data = data(&view);
        let sha256 = Sha256::of(b"x");
        assert_eq!(data["live"], format!("a/b@2+sha256:{sha256}"));
        assert_eq!(data["live.sha256"], sha256.to_string());
        assert_eq!(data["live.basename"], "app.jar");
        assert_eq!(data["latest.version"], "3");
        assert_eq!(data["live.version"], format!("a/b@1+sha256:{sha256}"), "a tag's own key wins");
        assert!(data.keys().all(|key| is_key(key)), "{data:?}");
    }
}
