//! Finding packages: a walk over the key tree, one listing per package and none per object.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, FuturesOrdered, StreamExt as _};

use super::{ObjectLedger, READS, keys};
use crate::error::Result;
use crate::ledger::ConditionalObjects;
use crate::model::PackageName;

/// The walk so far.
struct Walk<F: Future> {
    /// Prefixes still to be listed: empty, or ending in `/`.
    queue: VecDeque<String>,
    /// In the order of the walk, so that a list is the same each time.
    running: FuturesOrdered<F>,
    found: VecDeque<PackageName>,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// All packages. A prefix is a package if it has `versions/` below it; other names below it may be packages too,
    /// since package names contain `/`. `whole` also looks below the names that the layout uses itself, where only packages of
    /// 2015 can be.
    pub(super) fn walk_packages(&self, whole: bool) -> BoxStream<'_, Result<PackageName>> {
        let start = Walk {
            queue: VecDeque::from([String::new()]),
            running: FuturesOrdered::new(),
            found: VecDeque::new(),
        };
        stream::try_unfold(start, move |mut walk| async move {
            loop {
                if let Some(package) = walk.found.pop_front() {
                    return Ok(Some((package, walk)));
                }
                while walk.running.len() < READS && !walk.queue.is_empty() {
                    let most = self.objects.listings_at_once().min(walk.queue.len());
                    let prefixes = walk.queue.drain(..most).collect();
                    walk.running.push_back(self.objects.children_of_each(prefixes));
                }
                let Some(listed) = walk.running.next().await else { return Ok(None) };
                for (prefix, names) in listed? {
                    if let Some(package) = prefix.strip_suffix('/')
                        && names.iter().any(|name| name == "versions")
                    {
                        walk.found.push_back(PackageName::existing(package));
                    }
                    let deeper = |name: &&String| {
                        let own = prefix.is_empty() && *name == keys::OWN;
                        !own && (whole || !keys::RESERVED.contains(&name.as_str()))
                    };
                    walk.queue.extend(names.iter().filter(deeper).map(|name| format!("{prefix}{name}/")));
                }
            }
        })
        .boxed()
    }
}
