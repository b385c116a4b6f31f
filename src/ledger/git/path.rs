//! Keys as paths in a tree, and back.
//!
//! Whatever git, a file system below it, or a hosting service could take for something else is written as `%XX`: all
//! but letters, digits, `.`, `_` and `-` of ASCII, and a `.` at the beginning. So no path is `.git` in any disguise, none is
//! normalised, and none needs quoting. Names in a tree that no key is written as are not ours.

use std::fmt::Write as _;

/// One component of a key as a name in a tree.
fn encode(component: &str) -> String {
    let mut name = String::with_capacity(component.len());
    for (place, byte) in component.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && place > 0);
        if is_plain {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

/// The component that is written so; nothing where none is.
pub(super) fn decode(name: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            bytes.push(hex::decode(after.get(..2)?).ok()?[0]);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    let component = String::from_utf8(bytes).ok()?;
    // Each component has one spelling.
    (!component.is_empty() && encode(&component).as_bytes() == name).then_some(component)
}

/// The path of a key; nothing for a key with an empty component, which no path is.
pub(super) fn of(key: &str) -> Option<String> {
    let components: Vec<&str> = key.split('/').collect();
    if components.iter().any(|component| component.is_empty()) {
        return None;
    }
    Some(components.into_iter().map(encode).collect::<Vec<_>>().join("/"))
}

/// Whether two keys are the same, or one would have to be the directory that the other is in.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let (shorter, longer) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_names_stay_as_they_are() {
        for (key, path) in [
            ("frontend-server/versions/1", "frontend-server/versions/1"),
            ("_sacker/ledger.json", "_sacker/ledger.json"),
            (".git/config", "%2Egit/config"),
            ("a/../b", "a/%2E./b"),
            ("a b%/ü", "a%20b%25/%C3%BC"),
            ("git~1/\"", "git%7E1/%22"),
            ("-x", "-x"),
        ] {
            assert_eq!(of(key).as_deref(), Some(path), "{key}");
        }
        for key in ["", "/a", "a//b", "a/"] {
            assert_eq!(of(key), None, "{key}");
        }
    }

    #[test]
    fn names_of_others_are_no_components() {
        for name in [&b".github"[..], b"%2e", b"%41", b"a b", b"%", b"%4", b"%GG", b"\xff", b"", b"%FF"] {
            assert_eq!(decode(name), None, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(decode(b"README.md").as_deref(), Some("README.md"));
    }

    #[test]
    fn a_directory_collides_with_a_file_of_its_name() {
        assert!(collide("a/b", "a/b") && collide("a", "a/b") && collide("a/b/c", "a"));
        assert!(!collide("a", "ab") && !collide("a/b", "a/c"));
    }

    proptest! {
        #[test]
        fn every_component_comes_back(component in "\\PC{1,40}") {
            let component = component.replace('/', "\u{0}");
            let path = of(&component).expect("one component");
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-%".contains(&byte)));
            prop_assert!(!path.starts_with('.'));
            prop_assert_eq!(decode(path.as_bytes()), Some(component));
        }
    }
}
