//! Through the gate to the API server: over TLS, with watches that stay open.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::core::{DynamicObject, WatchEvent};
use serde_json::json;

use crate::support::cluster::{CONFIG_MAP, Cluster, Objects, PATIENCE};
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule};

/// A gate before the shared API server, the API through it, the same without it, and a namespace.
async fn gated() -> Option<(Gate, Objects, Objects, String)> {
    let cluster = Cluster::shared()?;
    let gate = cluster.gate(1);
    let (through, direct) = (cluster.api_through(&gate).await, cluster.api().await);
    Some((gate, through, direct, cluster.namespace(&[]).await))
}

async fn make(api: &Objects, namespace: &str, name: &str) {
    api.apply(CONFIG_MAP, namespace, name, json!({ "data": {} })).await;
}

type Events = BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>;

/// Waits until a watch tells of the object.
async fn until(events: &mut Events, name: &str) {
    let named = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(object) = event.expect("an event")
                && object.metadata.name.as_deref() == Some(name)
            {
                return;
            }
        }
        panic!("the watch has ended without '{name}'");
    };
    tokio::time::timeout(PATIENCE, named).await.expect("the watch tells it");
}

#[tokio::test]
async fn a_watch_streams_through_until_it_falls_silent() {
    let Some((gate, through, direct, namespace)) = gated().await else { return };
    let mut events = through.watch(CONFIG_MAP, &namespace).await;
    for name in ["a", "b"] {
        make(&direct, &namespace, name).await;
        until(&mut events, name).await;
    }
    gate.silence();
    make(&direct, &namespace, "c").await;
    let mut later = through.watch(CONFIG_MAP, &namespace).await;
    until(&mut later, "c").await;
    // The later one has it, so the earlier one would.
    let heard = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    let log = gate.log();
    assert!(log.iter().all(|entry| entry.operation == "watch" && entry.ended.is_none()), "{log:?}");
}

#[tokio::test]
async fn a_watch_is_told_in_an_event_that_its_version_is_gone() {
    let Some((gate, through, _, namespace)) = gated().await else { return };
    gate.set_rules(vec![Rule::new(Match::target("watch"), Action::Status(Refusal::Gone))]);
    let event = through.watch(CONFIG_MAP, &namespace).await.next().await.expect("one").expect("an event");
    assert!(matches!(&event, WatchEvent::Error(status) if status.code == 410), "{event:?}");
}

#[tokio::test]
async fn a_stale_watch_is_late_and_not_slow() {
    let Some((gate, through, direct, namespace)) = gated().await else { return };
    let late = Duration::from_secs(2);
    gate.set_rules(vec![Rule::new(Match::target("watch"), Action::Stale(late))]);
    let mut events = through.watch(CONFIG_MAP, &namespace).await;
    let first = Instant::now();
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        make(&direct, &namespace, name).await;
    }
    let made = Instant::now();
    for name in names {
        until(&mut events, name).await;
        assert!(first.elapsed() >= late, "{name} came after {:?}", first.elapsed());
    }
    assert!(made.elapsed() < late * 3, "{:?}", made.elapsed());
}
