//! Every decoder of somebody else's input, as the fuzzer calls it (`examples/fuzz.rs`, `fuzz/run`).
//!
//! A target must never panic on any input. Where a decoder has an encoder, what was accepted must come back the same.

use crate::ledger::{dynamo, layout};
use crate::model::{
    Event, LedgerUri, PackageName, PinnedSpec, Spec, StoreUri, TagName, Version, check_basename,
};

/// One decoder: its name and what to call with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("s3-json", layout::fuzz::decode),
    ("dynamodb-item", dynamo::fuzz::decode),
    ("event", event),
    ("uri", uri),
    ("name", name),
    ("spec", spec),
    ("import-line", import_line),
    ("config", config),
];

fn with_text(bytes: &[u8], decode: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        decode(text);
    }
}

fn event(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Event>(bytes) else { return };
    let again: Event = serde_json::from_str(&event.canonical()).expect("canonical JSON is JSON");
    assert_eq!(again.canonical(), event.canonical(), "the canonical form is not one");
    let _any = crate::model::verify_chain(&[event.clone(), event]);
}

fn uri(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Ok(uri) = text.parse::<LedgerUri>() {
            assert_eq!(uri.to_string().parse::<LedgerUri>().expect("our own words"), uri);
        }
        if let Ok(uri) = text.parse::<StoreUri>() {
            assert_eq!(uri.to_string().parse::<StoreUri>().expect("our own words"), uri);
        }
    });
}

fn name(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Ok(package) = PackageName::new(text) {
            assert!(!text.split('/').any(|part| matches!(part, "" | "." | ".." | "versions" | "tags")));
            assert_eq!(package.as_str(), text);
        }
        if let Ok(tag) = TagName::new(text) {
            assert!(matches!(text.parse::<Spec>(), Ok(Spec::Tag(found)) if found == tag), "no spec names it");
        }
        let _any = (PackageName::existing(text).to_string(), TagName::existing(text).check_stored());
        if check_basename(text).is_ok() {
            assert_eq!(std::path::Path::new(text).components().count(), 1);
        }
    });
}

fn spec(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Ok(spec) = text.parse::<Spec>() {
            let shown = spec.to_string();
            // What cannot be seen in a tag is shown escaped: for people, not to be read again.
            let is_plain = !matches!(&spec, Spec::Tag(tag) if tag.as_str() != shown);
            assert!(!is_plain || shown.parse::<Spec>().expect("our own words") == spec);
        }
        if let Ok(pinned) = text.parse::<PinnedSpec>() {
            assert_eq!(pinned.to_string().parse::<PinnedSpec>().expect("our own words"), pinned);
        }
        if let Ok(version) = text.parse::<Version>() {
            assert_eq!(version.to_string().parse::<Version>().expect("our own words"), version);
        }
    });
}

fn import_line(bytes: &[u8]) {
    if let Ok(line) = crate::dump::decode_line(bytes) {
        assert_eq!(crate::dump::encode_line(&line).as_bytes(), bytes, "a line has one spelling");
    }
}

fn config(bytes: &[u8]) {
    crate::config::fuzz(bytes);
}
