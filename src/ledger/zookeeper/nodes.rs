//! Which node a key is, and back (`docs/formats.md`). Pure: no request is made here.
//!
//! A node is an object, a directory or a bucket, and its name says which: objects begin with `=`, buckets with `~`. So no
//! node has to be read to tell what it is, and a directory is never taken for an object.
//!
//! Objects whose names are digits stand in buckets below their directory, a thousand of one length at most in each: ZooKeeper
//! gives all names below a node in one reply, whose size it limits. A bucket's name is what its objects' names begin with.

/// How many of its last digits an object's name has beyond that of its bucket.
const IN_BUCKET: usize = 3;

/// What a name below a node stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Child {
    /// The last component of a key.
    Object(String),
    /// Objects whose names are these digits and three more. Without digits: of at most three.
    Bucket(String),
    /// A component before the last.
    Directory(String),
}

/// The node of an object; nothing where a component of the key is empty, since no node has such a name.
pub(super) fn object(root: &str, key: &str) -> Option<String> {
    let (mut path, name) = match key.rsplit_once('/') {
        Some(("", _)) => return None,
        Some((components, name)) => (directory(root, components)?, name),
        None => (root.to_owned(), key),
    };
    if name.is_empty() {
        return None;
    }
    if let Some(bucket) = bucket_of(name) {
        path.push_str("/~");
        path.push_str(bucket);
    }
    path.push_str("/=");
    escape_into(name, &mut path);
    Some(path)
}

/// The node above all keys that begin with these components, or above all; nothing where one of them is empty.
pub(super) fn directory(root: &str, components: &str) -> Option<String> {
    let mut path = root.to_owned();
    if components.is_empty() {
        return Some(path);
    }
    for component in components.split('/') {
        if component.is_empty() {
            return None;
        }
        path.push('/');
        escape_into(component, &mut path);
    }
    Some(path)
}

/// The node of a bucket in a directory.
pub(super) fn bucket(directory: &str, digits: &str) -> String {
    format!("{directory}/~{digits}")
}

/// What the name of a node stands for; nothing where no key has such a node.
pub(super) fn child(name: &str) -> Option<Child> {
    if let Some(digits) = name.strip_prefix('~') {
        return digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Child::Bucket(digits.to_owned()));
    }
    match name.strip_prefix('=') {
        Some(rest) => unescape(rest).map(Child::Object),
        None => unescape(name).map(Child::Directory),
    }
}

/// The node above; nothing above `/`.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())
}

/// The digits that the bucket of this name is called by; nothing where the name is no number.
pub(super) fn bucket_of(name: &str) -> Option<&str> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| &name[..name.len().saturating_sub(IN_BUCKET)])
}

/// What ZooKeeper refuses in a path. Beyond the basic plane it sees surrogates.
fn is_refused(letter: char) -> bool {
    matches!(letter, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

fn escape_into(component: &str, path: &mut String) {
    // A whole name that means something else, or a beginning that does.
    let is_reserved = matches!(component, "." | ".." | "zookeeper") || component.starts_with(['=', '~']);
    for (place, letter) in component.char_indices() {
        if letter != '%' && !is_refused(letter) && !(is_reserved && place == 0) {
            path.push(letter);
            continue;
        }
        let mut buffer = [0; 4];
        for byte in letter.encode_utf8(&mut buffer).bytes() {
            path.push('%');
            path.push_str(&hex::encode_upper([byte]));
        }
    }
}

/// The component that is escaped so; nothing where none is.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.extend(hex::decode(escaped.get(..2)?).ok()?);
        rest = &escaped[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    let component = String::from_utf8(bytes).ok().filter(|component| !component.contains('/'))?;
    // Each component has one name: what is escaped otherwise was made by hand.
    let mut again = String::with_capacity(name.len());
    escape_into(&component, &mut again);
    (again == name && !component.is_empty()).then_some(component)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_the_nodes_of_the_format() {
        for (key, path) in [
            ("web/tags/live", "/r/web/tags/=live"),
            ("web/versions/7", "/r/web/versions/~/=7"),
            ("web/versions/999", "/r/web/versions/~/=999"),
            ("web/versions/1000", "/r/web/versions/~1/=1000"),
            ("web/versions/12345", "/r/web/versions/~12/=12345"),
            ("web/history/live/000000001234", "/r/web/history/live/~000000001/=000000001234"),
            ("_sacker/ledger.json", "/r/_sacker/=ledger.json"),
            // A package of 2015 that is called like a version has its own nodes.
            ("web/versions/12345/versions/1", "/r/web/versions/12345/versions/~/=1"),
            ("zookeeper/~a/=b", "/r/%7Aookeeper/%7Ea/=%3Db"),
            ("./../x%y", "/r/%2E/%2E./=x%25y"),
            ("ü b/日本/\u{1f600}\u{e000}\n", "/r/ü b/日本/=%F0%9F%98%80%EE%80%80%0A"),
            ("top", "/r/=top"),
        ] {
            assert_eq!(object("/r", key).as_deref(), Some(path), "{key:?}");
        }
        for key in ["", "/a", "a/", "a//b"] {
            assert_eq!(object("/r", key), None, "{key:?}");
        }
    }

    #[test]
    fn a_name_made_by_hand_is_no_key() {
        for name in ["%", "%4", "%41", "%zz", "%2F", "%ff", "~x", "=%41", "zookeeper", "=", "", "a\n", "%2e"]
        {
            assert_eq!(child(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_node_above() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), None);
    }

    proptest! {
        #[test]
        fn names_come_back(component in "[^/]{1,12}|\\.{1,3}|zookeeper|[=~%][0-9=~%.]{0,4}|[0-9]{1,14}") {
            let path = object("/r", &component).expect("a node");
            let name = path.rsplit('/').next().expect("a name");
            prop_assert_eq!(child(name), Some(Child::Object(component.clone())));
            prop_assert!(!name.chars().any(is_refused));
            let path = directory("/r", &component).expect("a node");
            let name = path.rsplit('/').next().expect("a name");
            prop_assert_eq!(child(name), Some(Child::Directory(component.clone())));
            prop_assert!(name != "." && name != ".." && !name.chars().any(is_refused));
            if let Some(digits) = bucket_of(&component) {
                prop_assert!(component.starts_with(digits) && component.len() - digits.len() <= IN_BUCKET);
                let named = Child::Bucket(digits.to_owned());
                prop_assert_eq!(child(&bucket("", digits)[1..]), Some(named));
            }
        }
    }
}
