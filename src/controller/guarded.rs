//! An object of ours as the caches keep it: without what no controller looks at, its status as text, and not in the way of
//! others when it is not readable.
//!
//! Who manages which field makes up half of many an object. It is skipped while the answer is decoded, and never becomes
//! a value of its own: with ten thousand objects that is most of what a start would allocate. A status in its parts is
//! twice as large as its text, and looked at in a pass only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::ObjectMeta;
use kube::core::object::{HasSpec, HasStatus};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::api::{GROUP, SackerLedger, SackerPackage, SackerTag};

/// A kind of ours, whose objects are put together from what is kept of them.
pub trait Kept:
    Resource + HasSpec<Spec: Clone + DeserializeOwned> + HasStatus<Status: DeserializeOwned>
{
    /// The object of these parts.
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

macro_rules! kept {
    ($($kind:ty),*) => {$(
        impl Kept for $kind {
            fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
                Self { metadata, spec, status }
            }
        }
    )*};
}

kept!(SackerLedger, SackerPackage, SackerTag);

/// An object that may not be readable as its kind.
pub struct Guarded<K: HasSpec> {
    metadata: ObjectMeta,
    /// The spec, or why the object cannot be read.
    spec: Result<K::Spec, String>,
    /// The status as JSON. It can be read if the object can.
    status: Option<Arc<str>>,
}

impl<K: HasSpec<Spec: Clone>> Clone for Guarded<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), spec: self.spec.clone(), status: self.status.clone() }
    }
}

impl<K: HasSpec> fmt::Debug for Guarded<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metadata, spec, status } = self;
        let error = spec.as_ref().err();
        f.debug_struct("Guarded")
            .field("metadata", metadata)
            .field("error", &error)
            .field("status", status)
            .finish()
    }
}

impl<K: Kept> Guarded<K> {
    /// The object.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(&self) -> Result<K, &str> {
        let spec = self.spec.as_ref().map_err(String::as_str)?;
        Ok(K::assemble(self.metadata.clone(), spec.clone(), self.status()))
    }

    /// The spec; nothing of an object that cannot be read.
    pub fn spec(&self) -> Option<&K::Spec> {
        self.spec.as_ref().ok()
    }

    /// The status, of an object that can be read and has one.
    pub fn status(&self) -> Option<K::Status> {
        self.status_as()
    }

    /// The status as a type that has only some of its fields.
    pub fn status_as<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        self.status_text().and_then(|text| serde_json::from_str(text).ok())
    }

    /// The status as JSON, of an object that can be read and has one.
    pub fn status_text(&self) -> Option<&Arc<str>> {
        self.status.as_ref().filter(|_| self.spec.is_ok())
    }
}

/// What of an object's metadata is kept.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        let is_ours = |key: &str| key.split_once('/').is_some_and(|(group, _)| group == GROUP);
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| is_ours(key));
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            finalizers: metadata.finalizers,
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..Self::default()
        }
    }
}

impl<'de, K: Kept> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Parts(PhantomData))
    }
}

struct Parts<K>(PhantomData<K>);

impl<'de, K: Kept> Visitor<'de> for Parts<K> {
    type Value = Guarded<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut metadata = ObjectMeta::default();
        let (mut spec, mut status) = (None, None);
        while let Some(key) = parts.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "metadata" => metadata = parts.next_value::<Metadata>()?.into(),
                "spec" => spec = Some(parts.next_value::<Value>()?),
                "status" => status = parts.next_value::<Option<Value>>()?,
                _ => drop(parts.next_value::<IgnoredAny>()?),
            }
        }
        let mut spec =
            spec.map_or_else(|| Err(serde_json::Error::missing_field("spec")), K::Spec::deserialize);
        let text = status.map(|status| {
            if let Err(error) = K::Status::deserialize(&status) {
                spec = Err(error);
            }
            status.to_string().into()
        });
        Ok(Guarded { metadata, spec: spec.map_err(|error| error.to_string()), status: text })
    }
}

impl<K: Resource + HasSpec> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SackerTag;
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::json;

    fn tag(version: &Value) -> Value {
        json!({
            "apiVersion": "sacker.dev/v1alpha1",
            "kind": "SackerTag",
            "metadata": {
                "name": "live",
                "namespace": "web",
                "uid": "u",
                "resourceVersion": "7",
                "generation": 3,
                "creationTimestamp": "2026-11-21T10:00:00Z",
                "finalizers": ["sacker.dev/tag"],
                "labels": { "team": "web" },
                "annotations": { "sacker.dev/requested-by": "alice", "kubectl.kubernetes.io/x": "{}" },
                "managedFields": [{ "manager": "m", "fieldsV1": { "f:spec": { "f:tag": {} } } }],
            },
            "spec": { "package": "a", "tag": "live", "version": version },
            "status": { "version": 1 },
        })
    }

    fn kept(metadata: &ObjectMeta) {
        assert_eq!(metadata.name.as_deref(), Some("live"));
        assert_eq!(metadata.namespace.as_deref(), Some("web"));
        assert_eq!(metadata.generation, Some(3));
        assert_eq!(metadata.finalizers.as_deref(), Some(&["sacker.dev/tag".to_owned()][..]));
        assert!(metadata.creation_timestamp.is_some() && metadata.managed_fields.is_none());
        let annotations = metadata.annotations.iter().flatten().map(|(key, _)| key.as_str());
        assert_eq!(annotations.collect::<Vec<_>>(), ["sacker.dev/requested-by"]);
    }

    #[test]
    fn an_object_is_read_and_what_nobody_looks_at_is_left_out() {
        let text = json!({
            "apiVersion": "sacker.dev/v1alpha1", "kind": "SackerTagList",
            "metadata": { "resourceVersion": "8" }, "items": [tag(&json!(1)), tag(&json!("one"))],
        })
        .to_string();
        let list: ObjectList<Guarded<SackerTag>> = serde_json::from_str(&text).expect("a list");
        let [readable, unreadable] = list.items.as_slice() else { panic!("{list:?}") };
        let readable = readable.read().expect("it can be read");
        kept(&readable.metadata);
        assert_eq!((readable.spec.version, readable.spec.ledger.as_str()), (Some(1), "default"));
        assert_eq!(readable.status.as_ref().and_then(|status| status.version), Some(1));
        kept(unreadable.meta());
        let error = unreadable.read().expect_err("it cannot be read");
        assert!(error.contains("string \"one\""), "{error}");
        assert!(unreadable.spec().is_none() && unreadable.status().is_none());
    }

    #[test]
    fn a_watch_may_name_the_event_after_the_object() {
        for text in [
            format!(r#"{{"type":"ADDED","object":{}}}"#, tag(&json!(1))),
            format!(r#"{{"object":{},"type":"ADDED"}}"#, tag(&json!(1))),
        ] {
            let event: WatchEvent<Guarded<SackerTag>> = serde_json::from_str(&text).expect("an event");
            let WatchEvent::Added(readable) = event else { panic!("{event:?}") };
            kept(&readable.read().expect("it can be read").metadata);
        }
    }

    #[test]
    fn without_metadata_it_is_unreadable_at_most() {
        let found: Guarded<SackerTag> = serde_json::from_value(json!({ "spec": 1 })).expect("guarded");
        assert!(found.read().is_err() && found.meta().name.is_none());
        let found: Guarded<SackerTag> = serde_json::from_value(json!({})).expect("guarded");
        assert_eq!(found.read().err(), Some("missing field `spec`"));
    }

    #[test]
    fn a_status_that_cannot_be_read_makes_the_object_unreadable() {
        let mut text = tag(&json!(1));
        text["status"] = json!({ "version": "one" });
        let found: Guarded<SackerTag> = serde_json::from_value(text.clone()).expect("guarded");
        assert!(found.read().is_err_and(|error| error.contains("string \"one\"")));
        text["status"] = Value::Null;
        let found: Guarded<SackerTag> = serde_json::from_value(text).expect("guarded");
        assert!(found.read().is_ok_and(|object| object.status.is_none()));
    }
}
