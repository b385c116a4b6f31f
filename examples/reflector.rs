//! What an operator cannot do without: lists SackerLedgers, SackerPackages and SackerTags and keeps them in caches, and
//! nothing else. `make bench` holds the operator's restart against it.
//!
//! Reads `KUBECONFIG`. Once all are listed it writes one line, `objects=<number>`, and ends.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fmt::Debug;
use std::future::ready;
use std::pin::pin;

use futures::StreamExt as _;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use sacker::api::{SackerLedger, SackerPackage, SackerTag};
use serde::de::DeserializeOwned;

type Failure = Box<dyn Error + Send + Sync>;

/// Follows all objects of a kind until they are listed. Returns their cache.
async fn listed<K>(client: Client) -> Result<reflector::Store<K>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let writer = Writer::default();
    let cache = writer.as_reader();
    let events = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff();
    let following = pin!(reflector::reflector(writer, events).for_each(|_| ready(())));
    tokio::select! {
        () = following => Err("the watch ended".into()),
        listed = cache.wait_until_ready() => listed.map(|()| cache.clone()).map_err(Into::into),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let client = Client::try_default().await?;
    let (ledgers, packages, tags) = tokio::try_join!(
        listed::<SackerLedger>(client.clone()),
        listed::<SackerPackage>(client.clone()),
        listed::<SackerTag>(client),
    )?;
    let objects = ledgers.len() + packages.len() + tags.len();
    println!("objects={objects}");
    Ok(())
}
