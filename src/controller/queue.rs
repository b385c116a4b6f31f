//! Who is to be looked at: a queue per kind, from every watch and poll to the one controller of the kind.
//!
//! kube's controller removes doubles and keeps two passes over one object apart; a queue only carries names.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::sync::mpsc;

use super::index::Key;

/// A queue of objects to look at. Closed until a controller opens it: a standby has nothing to do.
#[derive(Debug)]
pub struct Queue<K: Lookup + 'static>(Mutex<Option<mpsc::UnboundedSender<ObjectRef<K>>>>)
where
    K::DynamicType: std::hash::Hash + Eq;

impl<K> Default for Queue<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K> Queue<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    /// Opens the queue; what was woken before is not in it.
    pub fn open(&self) -> Woken<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Woken(receiver)
    }

    /// Asks for a pass over an object.
    pub fn wake(&self, object: ObjectRef<K>) {
        if let Some(sender) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Only a controller that ended has dropped the other end.
            let _ = sender.send(object);
        }
    }

    /// Asks for a pass over each of these namespaced objects.
    pub fn wake_all(&self, objects: impl IntoIterator<Item = Key>) {
        for (namespace, name) in objects {
            self.wake(ObjectRef::new(&name).within(&namespace));
        }
    }
}

/// The reading end of a queue.
#[derive(Debug)]
pub struct Woken<K: Lookup>(mpsc::UnboundedReceiver<ObjectRef<K>>)
where
    K::DynamicType: std::hash::Hash + Eq;

impl<K> Stream for Woken<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    type Item = ObjectRef<K>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
