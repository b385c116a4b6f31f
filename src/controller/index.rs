//! Which objects ask for which package: the answer to "who is concerned" without a walk over all objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// An object's namespace and name.
pub type Key = (String, String);

/// What an object asks for: a ledger, and a package of it.
pub type Subject = (String, String);

/// Who asks for the same package: in the order of the tags that they are for. An object that is for no tag in particular has
/// an empty one.
type Askers = BTreeSet<(Arc<str>, Arc<Key>)>;

/// Each key and each subject is there once, and shared: there is one per object.
#[derive(Debug, Default)]
struct Maps {
    by_subject: BTreeMap<Arc<Subject>, Askers>,
    subjects: HashMap<Arc<Key>, (Arc<Subject>, Arc<str>)>,
    namespaces: HashMap<String, BTreeSet<Arc<Key>>>,
}

/// The objects of one kind by ledger, package and namespace.
#[derive(Debug, Default)]
pub struct Index(Mutex<Maps>);

impl Index {
    fn maps(&self) -> std::sync::MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an object asks for now, and for which tag of it; nothing when it is gone or cannot be read.
    pub fn set(&self, object: &Key, subject: Option<(Subject, &str)>) {
        let mut maps = self.maps();
        let Maps { by_subject, subjects, namespaces } = &mut *maps;
        if let Some((shared, (before, tag))) = subjects.remove_entry(object)
            && let Some(objects) = by_subject.get_mut(&before)
        {
            objects.remove(&(tag, shared));
            if objects.is_empty() {
                by_subject.remove(&before);
            }
        }
        if let Some(objects) = namespaces.get_mut(&object.0) {
            objects.remove(object);
            if objects.is_empty() {
                namespaces.remove(&object.0);
            }
        }
        if let Some((subject, tag)) = subject {
            let (object, tag) = (Arc::new(object.clone()), Arc::<str>::from(tag));
            let known = by_subject.get_key_value(&subject).map(|(known, _)| known.clone());
            let subject = known.unwrap_or_else(|| Arc::new(subject));
            namespaces.entry(object.0.clone()).or_default().insert(object.clone());
            by_subject.entry(subject.clone()).or_default().insert((tag.clone(), object.clone()));
            subjects.insert(object, (subject, tag));
        }
    }

    /// The objects that ask for this package of this ledger.
    pub fn of_package(&self, ledger: &str, package: &str) -> Vec<Key> {
        let subject = (ledger.to_owned(), package.to_owned());
        self.maps().by_subject.get(&subject).into_iter().flat_map(cloned).collect()
    }

    /// The objects that are for this tag of this package.
    pub fn of_tag(&self, ledger: &str, package: &str, tag: &str) -> Vec<Key> {
        let subject = (ledger.to_owned(), package.to_owned());
        let first = (Arc::from(tag), Arc::default());
        let maps = self.maps();
        let from =
            maps.by_subject.get(&subject).into_iter().flat_map(|objects| objects.range(first.clone()..));
        from.take_while(|(of, _)| **of == *tag).map(|(_, object)| (**object).clone()).collect()
    }

    /// The objects that ask for anything of this ledger.
    pub fn of_ledger(&self, ledger: &str) -> Vec<Key> {
        let maps = self.maps();
        range(&maps.by_subject, ledger).flat_map(|(_, objects)| cloned(objects)).collect()
    }

    /// The packages of this ledger that are asked for, with who asks.
    pub fn packages(&self, ledger: &str) -> Vec<(String, Vec<Key>)> {
        let maps = self.maps();
        range(&maps.by_subject, ledger)
            .map(|(subject, objects)| (subject.1.clone(), cloned(objects).collect()))
            .collect()
    }

    /// The objects in this namespace.
    pub fn of_namespace(&self, namespace: &str) -> Vec<Key> {
        let maps = self.maps();
        maps.namespaces.get(namespace).into_iter().flatten().map(|object| (**object).clone()).collect()
    }
}

fn cloned(objects: &Askers) -> impl Iterator<Item = Key> {
    objects.iter().map(|(_, object)| (**object).clone())
}

fn range<'a>(
    map: &'a BTreeMap<Arc<Subject>, Askers>,
    ledger: &'a str,
) -> impl Iterator<Item = (&'a Arc<Subject>, &'a Askers)> {
    let first = (ledger.to_owned(), String::new());
    map.range::<Subject, _>(first..).take_while(move |(subject, _)| subject.0 == ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("n".into(), name.into())
    }

    fn subject(ledger: &str, package: &str) -> (Subject, &'static str) {
        ((ledger.into(), package.into()), "")
    }

    #[test]
    fn objects_are_found_by_the_tag_that_they_are_for() {
        let index = Index::default();
        let package = || ("default".to_owned(), "p".to_owned());
        for (name, tag) in [("d", "live"), ("c", "live"), ("b", "canary"), ("a", "live-2")] {
            index.set(&key(name), Some((package(), tag)));
        }
        assert_eq!(index.of_tag("default", "p", "live"), [key("c"), key("d")]);
        assert!(
            index.of_tag("default", "p", "liv").is_empty() && index.of_tag("default", "q", "live").is_empty()
        );
        index.set(&key("d"), Some((package(), "canary")));
        assert_eq!(index.of_tag("default", "p", "live"), [key("c")]);
        assert_eq!(index.of_tag("default", "p", "canary"), [key("b"), key("d")]);
    }

    #[test]
    fn objects_are_found_moved_and_forgotten() {
        let index = Index::default();
        index.set(&key("a"), Some(subject("default", "p")));
        index.set(&key("b"), Some(subject("default", "q")));
        index.set(&key("c"), Some(subject("default2", "p")));
        assert_eq!(index.of_package("default", "p"), [key("a")]);
        assert_eq!(index.of_ledger("default"), [key("a"), key("b")]);
        assert_eq!(index.of_namespace("n").len(), 3);

        index.set(&key("a"), Some(subject("default", "q")));
        assert!(index.of_package("default", "p").is_empty());
        assert_eq!(index.packages("default"), [("q".to_owned(), vec![key("a"), key("b")])]);

        index.set(&key("a"), None);
        index.set(&key("b"), None);
        assert!(index.of_ledger("default").is_empty());
        assert_eq!(index.of_namespace("n"), [key("c")]);
    }
}
