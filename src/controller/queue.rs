//! Who is to be looked at: a queue per kind, from every watch and poll to the one controller of the kind.
//!
//! kube's controller removes doubles and keeps two passes over one object apart, but it takes all it is given at once and
//! works it off in that order. So objects wait here, namespace by namespace in turn, and are given to it few at a time: who
//! has ten thousand objects waits for them alone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

use super::CONCURRENCY;
use super::index::Key;

/// Objects that the controller has at a time: a pass for each of its workers, and one that is ready when it ends.
const GIVEN: usize = 2 * CONCURRENCY as usize;

/// A queue of objects to look at. Closed until a controller opens it: a standby has nothing to do.
#[derive(Debug)]
pub struct Queue<K: Resource<DynamicType = ()> + 'static>(Mutex<Option<Shared<K>>>);

type Shared<K> = Arc<Mutex<Line<K>>>;

/// Who waits, in turns.
#[derive(Debug)]
struct Line<K: Resource<DynamicType = ()> + 'static> {
    /// The namespaces of those who wait, each once; the first has the next turn.
    turns: VecDeque<String>,
    /// Who waits, by namespace. At a start it is everybody, so each takes little space.
    waiting: HashMap<String, Row>,
    /// Whom the controller was given and has not answered for.
    given: HashSet<Key>,
    reader: Option<Waker>,
    kind: PhantomData<fn() -> K>,
}

/// The names of those of one namespace who wait.
#[derive(Debug, Default)]
struct Row {
    order: VecDeque<Arc<str>>,
    /// The same as `order`.
    known: HashSet<Arc<str>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Line<K> {
    fn new() -> Self {
        Self {
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            given: HashSet::new(),
            reader: None,
            kind: PhantomData,
        }
    }

    /// Also for one that the controller has: its pass may have begun before what it is woken for.
    fn push(&mut self, object: &ObjectRef<K>) {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        if !self.waiting.contains_key(namespace) {
            self.turns.push_back(namespace.to_owned());
        }
        let row = self.waiting.entry(namespace.to_owned()).or_default();
        if !row.known.contains(object.name.as_str()) {
            let name: Arc<str> = object.name.as_str().into();
            row.known.insert(name.clone());
            row.order.push_back(name);
        }
    }

    fn next(&mut self) -> Option<ObjectRef<K>> {
        if self.given.len() >= GIVEN {
            return None;
        }
        let namespace = self.turns.pop_front()?;
        let row = self.waiting.get_mut(&namespace)?;
        let name = row.order.pop_front()?;
        row.known.remove(&name);
        if row.order.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        let object = ObjectRef::new(&name);
        // Empty for an object of the cluster.
        let object = if namespace.is_empty() { object } else { object.within(&namespace) };
        self.given.insert((namespace, object.name.clone()));
        Some(object)
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Queue<K> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Queue<K> {
    /// Opens the queue; what was woken before is not in it.
    pub fn open(&self) -> Woken<K> {
        let line = Arc::new(Mutex::new(Line::new()));
        *locked(&self.0) = Some(line.clone());
        Woken(line)
    }

    fn with(&self, change: impl FnOnce(&mut Line<K>)) {
        if let Some(line) = &*locked(&self.0) {
            let mut line = locked(line);
            change(&mut line);
            line.wake_reader();
        }
    }

    /// Asks for a pass over an object.
    pub fn wake(&self, object: &ObjectRef<K>) {
        self.with(|line| line.push(object));
    }

    /// Asks for a pass over each of these namespaced objects.
    pub fn wake_all(&self, objects: impl IntoIterator<Item = Key>) {
        for (namespace, name) in objects {
            self.wake(&ObjectRef::new(&name).within(&namespace));
        }
    }

    /// Says that a pass over an object ended, or that there was nothing to look at.
    pub fn answered(&self, namespace: Option<&str>, name: &str) {
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        self.with(|line| {
            line.given.remove(&key);
        });
    }
}

/// The reading end of a queue.
#[derive(Debug)]
pub struct Woken<K: Resource<DynamicType = ()> + 'static>(Shared<K>);

impl<K: Resource<DynamicType = ()> + 'static> Stream for Woken<K> {
    type Item = ObjectRef<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut line = locked(&self.0);
        if let Some(object) = line.next() {
            return Poll::Ready(Some(object));
        }
        line.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SackerTag;
    use futures::{FutureExt as _, StreamExt as _};

    fn object(namespace: &str, name: &str) -> ObjectRef<SackerTag> {
        ObjectRef::new(name).within(namespace)
    }

    fn next(woken: &mut Woken<SackerTag>) -> Option<String> {
        woken.next().now_or_never().flatten().map(|object| object.name)
    }

    #[test]
    fn namespaces_take_turns() {
        let queue = Queue::<SackerTag>::default();
        let mut woken = queue.open();
        for number in 0..1_000 {
            queue.wake(&object("noisy", &format!("n{number}")));
        }
        queue.wake(&object("quiet", "a"));
        queue.wake(&object("quiet", "b"));
        let first: Vec<_> = (0..6).filter_map(|_| next(&mut woken)).collect();
        assert_eq!(first, ["n0", "a", "n1", "b", "n2", "n3"]);
    }

    #[test]
    fn the_controller_has_few_at_a_time() {
        let queue = Queue::<SackerTag>::default();
        let mut woken = queue.open();
        for number in 0..=GIVEN {
            queue.wake(&object("web", &format!("n{number}")));
        }
        assert_eq!((0..=GIVEN).filter_map(|_| next(&mut woken)).count(), GIVEN);
        queue.answered(Some("web"), "none of them");
        assert_eq!(next(&mut woken), None);
        queue.answered(Some("web"), "n7");
        assert_eq!(next(&mut woken), Some(format!("n{GIVEN}")));
    }

    #[test]
    fn who_waits_waits_once_and_who_is_looked_at_may_be_woken_again() {
        let queue = Queue::<SackerTag>::default();
        let mut woken = queue.open();
        queue.wake(&object("web", "a"));
        queue.wake(&object("web", "a"));
        assert_eq!((next(&mut woken), next(&mut woken)), (Some("a".into()), None));
        queue.wake(&object("web", "a"));
        assert_eq!(next(&mut woken), Some("a".into()));
    }

    #[test]
    fn the_reader_is_woken_by_a_place_and_by_an_object() {
        let queue = Queue::<SackerTag>::default();
        let woken = queue.open();
        let mut task = Task { woken, count: Arc::default() };
        assert!(task.is_pending());
        queue.wake(&object("web", "a"));
        assert!(task.was_woken() && !task.is_pending());
    }

    #[test]
    fn a_closed_queue_keeps_nothing() {
        let queue = Queue::<SackerTag>::default();
        queue.wake(&object("web", "a"));
        let mut woken = queue.open();
        assert_eq!(next(&mut woken), None);
    }

    /// A stream with a waker that counts.
    struct Task {
        woken: Woken<SackerTag>,
        count: Arc<Count>,
    }

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Task {
        fn is_pending(&mut self) -> bool {
            let waker = Waker::from(self.count.clone());
            self.woken.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending()
        }

        fn was_woken(&self) -> bool {
            self.count.0.load(std::sync::atomic::Ordering::Relaxed) > 0
        }
    }
}
