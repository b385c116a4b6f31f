//! An object of ours as a watch reads it: without what no controller looks at, and not in the way of others when it is
//! not readable.
//!
//! Who manages which field makes up half of many an object. It is skipped while the answer is decoded, and never becomes
//! a value of its own: with ten thousand objects that is most of what a start would allocate.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::api::GROUP;

/// An object that may not be readable as its type.
#[derive(Debug, Clone)]
pub struct Guarded<K>(
    /// The object, or why it cannot be read.
    pub Result<K, Unreadable>,
);

/// An object whose metadata is all that could be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Why.
    pub error: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
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

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Parts(PhantomData))
    }
}

struct Parts<K>(PhantomData<K>);

impl<'de, K: Resource + DeserializeOwned> Visitor<'de> for Parts<K> {
    type Value = Guarded<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut metadata = ObjectMeta::default();
        let mut rest = Map::new();
        while let Some(key) = parts.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "metadata" => metadata = parts.next_value::<Metadata>()?.into(),
                "apiVersion" | "kind" => drop(parts.next_value::<IgnoredAny>()?),
                _ => drop(rest.insert(key.into_owned(), parts.next_value::<Value>()?)),
            }
        }
        // Decoded once already, as what is kept of it.
        rest.insert("metadata".to_owned(), Value::Object(Map::new()));
        Ok(Guarded(match K::deserialize(Value::Object(rest)) {
            Ok(mut object) => {
                *object.meta_mut() = metadata;
                Ok(object)
            }
            Err(error) => Err(Unreadable { error: error.to_string(), metadata }),
        }))
    }
}

impl<K: Resource> Resource for Guarded<K> {
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
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
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
        let [Guarded(Ok(readable)), Guarded(Err(unreadable))] = list.items.as_slice() else {
            panic!("{list:?}")
        };
        kept(&readable.metadata);
        assert_eq!((readable.spec.version, readable.spec.ledger.as_str()), (Some(1), "default"));
        assert_eq!(readable.status.as_ref().and_then(|status| status.version), Some(1));
        kept(&unreadable.metadata);
        assert!(unreadable.error.contains("string \"one\""), "{}", unreadable.error);
    }

    #[test]
    fn a_watch_may_name_the_event_after_the_object() {
        for text in [
            format!(r#"{{"type":"ADDED","object":{}}}"#, tag(&json!(1))),
            format!(r#"{{"object":{},"type":"ADDED"}}"#, tag(&json!(1))),
        ] {
            let event: WatchEvent<Guarded<SackerTag>> = serde_json::from_str(&text).expect("an event");
            let WatchEvent::Added(Guarded(Ok(readable))) = event else { panic!("{event:?}") };
            kept(&readable.metadata);
        }
    }

    #[test]
    fn without_metadata_it_is_unreadable_at_most() {
        let found: Guarded<SackerTag> = serde_json::from_value(json!({ "spec": 1 })).expect("guarded");
        assert!(found.0.is_err() && found.meta().name.is_none());
    }
}
