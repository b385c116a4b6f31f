//! Watches: one per kind, feeding a cache that every controller reads, and telling what changed.
//!
//! A watch runs in a standby too, so that its cache is warm when it takes over. What a change means is not decided here
//! but where it is routed (`route.rs`).

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use kube::api::Api;
use kube::runtime::reflector::{Lookup as _, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Error, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::warn;

/// One object's change: nothing before is a creation, nothing after a deletion.
#[derive(Debug)]
pub struct Change<K> {
    /// The object as it was in the cache.
    pub before: Option<Arc<K>>,
    /// The object as it is in the cache now.
    pub after: Option<Arc<K>>,
}

impl<K: Resource> Change<K> {
    /// The object, in its newest form.
    pub fn object(&self) -> Option<&K> {
        self.after.as_deref().or(self.before.as_deref())
    }

    /// Whether the object came, went, was replaced, or differs in what `fingerprint` looks at.
    pub fn differs<T: PartialEq>(&self, fingerprint: impl Fn(&K) -> T) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                before.meta().uid != after.meta().uid || fingerprint(before) != fingerprint(after)
            }
            _ => true,
        }
    }
}

/// Lists and watches. When the start of a watch is refused because its version is too old, it lists anew: kube does so
/// where an event of the watch says it, and asks for the same version again and again where the reply does.
pub fn events<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let start = move || watcher(api.clone(), config.clone()).boxed();
    stream::unfold((start, None), async |(start, watching)| {
        let mut watching = watching.unwrap_or_else(&start);
        let event = watching.next().await?;
        let watching = if is_expired(&event) { None } else { Some(watching) };
        Some((event, (start, watching)))
    })
}

fn is_expired<K>(event: &watcher::Result<Event<K>>) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(Error::Api(status))) if status.code == 410)
}

/// Feeds `writer` with `events` and calls `observe` with each change, after the cache shows it. A relist becomes changes
/// too, deletions that the watch has missed included. `listed` is told after the changes of the first list were observed:
/// the cache is complete before that, and what follows from it is not. Ends with the stream.
pub async fn drive<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    mut writer: Writer<K>,
    kind: &'static str,
    listed: oneshot::Sender<()>,
    mut heard: impl FnMut(),
    mut observe: impl FnMut(Change<K>),
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let cache = writer.as_reader();
    let mut events = std::pin::pin!(events);
    let mut listed = Some(listed);
    let mut before_list: HashMap<ObjectRef<K>, Arc<K>> = HashMap::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            // The stream goes on by itself, after a pause.
            Err(error) => {
                warn!(kind, %error, "the watch failed; it is taken up again");
                continue;
            }
        };
        heard();
        let object = match &event {
            Event::Apply(object) | Event::Delete(object) => Some(object.to_object_ref(())),
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        let before = object.as_ref().and_then(|object| cache.get(object));
        if matches!(event, Event::Init) {
            before_list = by_reference(&cache);
        }
        writer.apply_watcher_event(&event);
        match event {
            Event::Apply(_) => {
                observe(Change { before, after: object.and_then(|object| cache.get(&object)) });
            }
            Event::Delete(deleted) => {
                observe(Change { before: Some(before.unwrap_or_else(|| Arc::new(deleted))), after: None });
            }
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                let mut before_list = std::mem::take(&mut before_list);
                for after in cache.state() {
                    let before = before_list.remove(&after.to_object_ref(()));
                    observe(Change { before, after: Some(after) });
                }
                for before in before_list.into_values() {
                    observe(Change { before: Some(before), after: None });
                }
                // Who has stopped waiting does not mind.
                let _ = listed.take().map(|listed| listed.send(()));
            }
        }
    }
}

fn by_reference<K>(cache: &Store<K>) -> HashMap<ObjectRef<K>, Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    cache.state().into_iter().map(|object| (object.to_object_ref(()), object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    fn object(name: &str, generation: i64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("n".into()),
                uid: Some(name.into()),
                generation: Some(generation),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn generation(object: &ConfigMap) -> Option<i64> {
        object.metadata.generation
    }

    async fn seen(events: Vec<Event<ConfigMap>>) -> Vec<String> {
        let mut seen = Vec::new();
        let stream = futures::stream::iter(events.into_iter().map(Ok));
        drive(
            stream,
            Writer::new(()),
            "ConfigMap",
            oneshot::channel().0,
            || {},
            |change| {
                let show = |object: &Option<Arc<ConfigMap>>| match object {
                    Some(object) => generation(object).unwrap_or(0).to_string(),
                    None => "-".into(),
                };
                let name =
                    change.object().and_then(|object| object.metadata.name.clone()).unwrap_or_default();
                let differs = if change.differs(generation) { "" } else { " same" };
                seen.push(format!("{name}: {} to {}{differs}", show(&change.before), show(&change.after)));
            },
        )
        .await;
        seen
    }

    #[tokio::test]
    async fn a_relist_tells_what_was_missed() {
        let events = vec![
            Event::Init,
            Event::InitApply(object("a", 1)),
            Event::InitApply(object("b", 1)),
            Event::InitDone,
            Event::Apply(object("a", 2)),
            Event::Apply(object("a", 2)),
            Event::Init,
            Event::InitApply(object("a", 3)),
            Event::InitDone,
            Event::Delete(object("a", 3)),
        ];
        let mut seen = seen(events).await;
        seen[..2].sort();
        assert_eq!(
            seen,
            ["a: - to 1", "b: - to 1", "a: 1 to 2", "a: 2 to 2 same", "a: 2 to 3", "b: 1 to -", "a: 3 to -"]
        );
    }

    #[tokio::test]
    async fn a_first_list_is_told_after_its_changes_were_observed() {
        let list = || vec![Event::Init, Event::InitApply(object("a", 1)), Event::InitDone];
        let events = futures::stream::iter([list(), list()].concat().into_iter().map(Ok));
        let (told, mut listed) = oneshot::channel();
        let mut observed = Vec::new();
        drive(
            events,
            Writer::new(()),
            "ConfigMap",
            told,
            || {},
            |_| observed.push(listed.try_recv().is_ok()),
        )
        .await;
        assert_eq!(observed, [false, true]);
    }
}
