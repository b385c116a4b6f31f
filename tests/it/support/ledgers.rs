//! The ledgers that the conformance suite runs on.

use std::path::Path;
use std::sync::Arc;

use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger, MemoryObjects, ObjectLedger};
use sacker::model::{LedgerUri, Numbering};

/// One kind of ledger on one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Memory,
    File,
}

/// A ledger that is set up and ready.
pub(crate) struct Opened {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) numbering: Numbering,
    /// The directory it lives in, removed with this.
    #[expect(dead_code, reason = "held for its destructor")]
    pub(crate) home: Option<tempfile::TempDir>,
}

impl Target {
    /// A ledger on this target.
    pub(crate) async fn open(self) -> Option<Opened> {
        match self {
            Self::Memory => {
                let objects = MemoryObjects::new(Numbering::Sequence);
                let ledger: Arc<dyn Ledger> =
                    Arc::new(ObjectLedger::new(file_uri(Path::new("/memory")), objects, Connect::default()));
                ledger.init(&InitOptions::default()).await.expect("init");
                Some(Opened { ledger, numbering: Numbering::Sequence, home: None })
            }
            Self::File => {
                let home = tempfile::tempdir().expect("a directory");
                let ledger = ledger::open(&file_uri(home.path()), &Connect::default()).await.expect("open");
                ledger.init(&InitOptions::default()).await.expect("init");
                Some(Opened { ledger, numbering: Numbering::Sequence, home: Some(home) })
            }
        }
    }
}

pub(crate) fn file_uri(path: &Path) -> LedgerUri {
    format!("file://{}", path.display()).parse().expect("a file URI")
}
