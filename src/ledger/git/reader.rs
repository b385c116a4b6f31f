//! Objects of a repository through one `git cat-file --batch` that lives as long as it is asked: a read costs no process.
//!
//! It sees what others write meanwhile: names are looked up for each request, and packs are looked for again where an
//! object is not found. Not responsible for what a missing object means.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::command::{Deadline, Git, Group};
use super::failure::Failure;
use super::tree::is_id;
use crate::error::{Error, Meaning};
use crate::ledger::objects::OBJECT_MAX;

/// A directory with so many names is none of ours: about 800,000.
const TREE_MAX: usize = 64 << 20;

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// There is no such name or object.
    Missing,
    Object {
        id: String,
        bytes: Bytes,
    },
    /// It is larger than any that is ours.
    TooLarge,
}

/// The process, while there is one.
#[derive(Debug, Default)]
pub(super) struct Reader(Mutex<Option<Batch>>);

#[derive(Debug)]
struct Batch {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    // Ended by the end of its input, and if that does not help by this.
    _group: Group,
    _child: Child,
}

impl Batch {
    fn start(git: &Git, directory: &Path) -> Result<Self, Failure> {
        let mut command = git.command(Some(directory), &["cat-file", "--batch"])?;
        command.stdin(std::process::Stdio::piped());
        let mut child = command.spawn().map_err(|error| git.unstarted(error))?;
        let group = Group::of(&child);
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Ok(Self { stdin, stdout: BufReader::new(stdout), stderr, _group: group, _child: child })
            }
            _ => Err(Error::new(Meaning::Other, "talk to git").into()),
        }
    }

    /// One answer; an I/O error where the process is gone.
    async fn ask(&mut self, name: &str) -> std::io::Result<Option<Read>> {
        self.stdin.write_all(format!("{name}\n").as_bytes()).await?;
        self.stdin.flush().await?;
        let mut header = String::new();
        if self.stdout.read_line(&mut header).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let words: Vec<&str> = header.trim_end().split(' ').collect();
        let [id, kind, size] = words[..] else { return Ok(Some(Read::Missing)) };
        let Ok(size) = size.parse::<usize>() else { return Ok(None) };
        if !is_id(id) {
            return Ok(None);
        }
        let most = if kind == "tree" { TREE_MAX } else { OBJECT_MAX };
        if size > most {
            return Ok(Some(Read::TooLarge));
        }
        let mut bytes = vec![0; size + 1];
        self.stdout.read_exact(&mut bytes).await?;
        bytes.truncate(size);
        Ok(Some(Read::Object { id: id.to_owned(), bytes: Bytes::from(bytes) }))
    }

    /// What it said before it ended.
    async fn last_words(mut self) -> String {
        drop(self.stdin);
        let mut said = vec![0; 4096];
        let read = tokio::time::timeout(std::time::Duration::from_secs(1), self.stderr.read(&mut said)).await;
        said.truncate(read.map_or(0, |read| read.unwrap_or(0)));
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Reader {
    /// The object of this name (an id, or a whole ref).
    pub(super) async fn read(
        &self,
        git: &Git,
        directory: &Path,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Read, Failure> {
        let mut place = self.0.lock().await;
        let mut is_new = false;
        loop {
            // Taken out while it is asked: who is interrupted half way leaves no half answer to the next.
            let mut batch = if let Some(batch) = place.take() {
                batch
            } else {
                is_new = true;
                Batch::start(git, directory)?
            };
            match tokio::time::timeout(deadline.left(), batch.ask(name)).await {
                Ok(Ok(Some(read))) => {
                    if read != Read::TooLarge {
                        *place = Some(batch);
                    }
                    return Ok(read);
                }
                // One that ended since it was last asked is started anew.
                Ok(Err(_)) if !is_new => {}
                Ok(Err(_)) => return Err(Failure::Broken(batch.last_words().await)),
                Ok(Ok(None)) => {
                    return Err(Failure::Broken("an answer of git cat-file makes no sense".into()));
                }
                Err(_) => return Err(Error::new(Meaning::Unavailable, "read an object in time").into()),
            }
        }
    }

    /// Ends the process: the repository is another one now.
    pub(super) async fn reset(&self) {
        drop(self.0.lock().await.take());
    }
}
