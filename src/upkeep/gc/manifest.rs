//! What collection condemned so far, kept in the store between its runs (`_sacker/gc.json`, see `docs/formats.md`).

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Meaning, Result};
use crate::model::Sha256;
use crate::store::StoredBlob;

/// The form that this sacker writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// How far the collection of one blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Unreferenced since then; nothing was done to it.
    Condemned,
    /// About to be hidden, or hidden by a run that did not get further.
    Hiding,
    /// Hidden since then.
    Hidden,
}

/// One condemned blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// How far its collection is.
    pub state: State,
    /// When it came to that, by the store's clock, after the ledgers were read.
    #[serde(with = "crate::model::time")]
    pub since: Timestamp,
    /// The writing of the blob that is meant. Another one is another blob.
    pub revision: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    #[serde(with = "crate::model::time")]
    pub modified: Timestamp,
}

impl Condemned {
    /// The blob that was condemned.
    pub fn blob(&self, sha256: Sha256) -> StoredBlob {
        StoredBlob { sha256, size: self.size, modified: self.modified, revision: self.revision.clone() }
    }
}

/// All condemned blobs of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// By digest.
    pub blobs: BTreeMap<Sha256, Condemned>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    blobs: BTreeMap<String, Condemned>,
}

impl Manifest {
    /// Reads the bytes of a manifest.
    ///
    /// # Errors
    /// `Corrupt` for anything that this sacker did not write: a guess here could delete, or hide, for ever.
    pub fn decode(bytes: &[u8], key: &str) -> Result<Self> {
        let broken = |why: String| {
            let error = Error::new(Meaning::Corrupt { why }, "read what was condemned").with_key(key);
            error.with_hint("a newer sacker may have written it")
        };
        let document: Document = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
        if document.format != FORMAT {
            return Err(broken(format!("its format is {}, not {FORMAT}", document.format)));
        }
        let mut blobs = BTreeMap::new();
        for (sha256, condemned) in document.blobs {
            blobs.insert(sha256.parse().map_err(|error: Error| broken(error.to_string()))?, condemned);
        }
        Ok(Self { blobs })
    }

    /// Its bytes: the same for equal manifests.
    ///
    /// # Errors
    /// None that can happen: a map with text for keys is always JSON.
    pub fn encode(&self) -> Result<Bytes> {
        let blobs = self.blobs.iter().map(|(sha256, condemned)| (sha256.to_string(), condemned.clone()));
        let document = Document { format: FORMAT, blobs: blobs.collect() };
        let bytes = serde_json::to_vec(&document);
        Ok(bytes
            .map_err(|error| Error::new(Meaning::Other, "write what is condemned").with_source(error))?
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_others_are_refused() {
        let at = Timestamp::from_second(1_700_000_000).expect("a time");
        let condemned =
            Condemned { state: State::Hiding, since: at, revision: "r".to_owned(), size: 5, modified: at };
        let manifest = Manifest { blobs: [(Sha256::of(b"x"), condemned)].into() };
        let bytes = manifest.encode().expect("bytes");
        assert_eq!(Manifest::decode(&bytes, "k").expect("it comes back"), manifest);
        for (text, why) in [
            (&b"{"[..], "EOF"),
            (br#"{"format":2,"blobs":{}}"#, "its format is 2"),
            (br#"{"format":1,"blobs":{"x":{"state":"condemned","since":"2026-01-01T00:00:00Z","revision":"r","size":1,"modified":"2026-01-01T00:00:00Z"}}}"#, "not a sha256"),
            (br#"{"format":1}"#, "missing field"),
        ] {
            let error = Manifest::decode(text, "k").expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
