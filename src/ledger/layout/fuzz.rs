//! The decoders of the object ledger as the fuzzer calls them: what is read must be written back the same.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::records;
use crate::ledger::{Object, Revision};
use crate::model::{PackageName, TagName, Version};

/// All of them over the same bytes; most inputs mean something to one at most.
///
/// # Panics
/// When a decoder accepts what its encoder does not give back.
pub(crate) fn decode(bytes: &[u8]) {
    let object = Object {
        bytes: Bytes::copy_from_slice(bytes),
        revision: Revision(String::new()),
        metadata: BTreeMap::new(),
    };
    let package = PackageName::existing("a/b");
    let _any = records::decode_version(&package, Version::FIRST, "key", &object);
    let _any = records::decode_ledger("key", bytes);
    if let Ok(event) = records::decode_event("key", bytes) {
        let again = records::decode_event("key", &records::encode_event(&event)).expect("our own JSON");
        assert_eq!(again, event, "an event changes on its way through the ledger");
        assert_eq!(again.digest(), event.digest());
    }
    let tag = TagName::existing("live");
    if let Ok(stored) = records::decode_pointer(&tag, "key", bytes)
        && let Some(event) = stored.state.as_ref().and_then(|state| state.event.as_ref())
    {
        let again =
            records::decode_pointer(&tag, "key", &records::encode_pointer(event, stored.fence.clone()));
        assert_eq!(again.expect("our own JSON"), stored, "a pointer changes on its way through the ledger");
    }
}
