//! What `git fast-import` is told to make commits, and what it answers. Pure.
//!
//! Its branch exists for the length of the stream only: nothing but ids comes out of it, and they count when they are pushed.

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;

use super::message::Message;

/// One commit: files by their paths, with their bytes or, to be removed, without.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) message: Message,
    pub(super) files: Vec<(String, Option<&'a Bytes>)>,
}

/// What was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// The last commit.
    pub(super) commit: String,
    /// The first file of each commit; nothing where that was removed.
    pub(super) files: Vec<Option<String>>,
}

/// The stream that makes these commits, one after the other, on top of `base`.
pub(super) fn write(base: Option<&str>, commits: &[Commit<'_>], now: Timestamp, id: &str) -> Vec<u8> {
    let branch = format!("refs/sacker/new/{id}");
    let mut stream = b"feature done\n".to_vec();
    let mut questions = String::new();
    let mut mark = 0;
    for (place, commit) in commits.iter().enumerate() {
        let mut changes = String::new();
        for (number, (path, bytes)) in commit.files.iter().enumerate() {
            // Writing to a String cannot fail, here and below.
            let _ = match bytes {
                Some(bytes) => {
                    mark += 1;
                    stream
                        .extend_from_slice(format!("blob\nmark :{mark}\ndata {}\n", bytes.len()).as_bytes());
                    stream.extend_from_slice(bytes);
                    stream.push(b'\n');
                    if number == 0 {
                        let _ = writeln!(questions, "get-mark :{mark}");
                    }
                    writeln!(changes, "M 100644 :{mark} {path}")
                }
                None => writeln!(changes, "D {path}"),
            };
        }
        mark += 1;
        let Message { name, mail, at, text } = &commit.message;
        let at = at.unwrap_or(now).as_second().max(0);
        let now = now.as_second().max(0);
        let mut head = format!("commit {branch}\nmark :{mark}\nauthor {name} <{mail}> {at} +0000\n");
        let _ = write!(head, "committer {name} <{mail}> {now} +0000\ndata {}\n{text}\n", text.len());
        if let (0, Some(base)) = (place, base) {
            let _ = writeln!(head, "from {base}");
        }
        stream.extend_from_slice(head.as_bytes());
        stream.extend_from_slice(changes.as_bytes());
        stream.push(b'\n');
    }
    let nothing = "0".repeat(base.map_or(40, str::len));
    let _ = write!(questions, "get-mark :{mark}\nreset {branch}\nfrom {nothing}\n\ndone\n");
    stream.extend_from_slice(questions.as_bytes());
    stream
}

/// Reads the answers to the stream of these commits; nothing where they make no sense.
pub(super) fn read(answers: &str, commits: &[Commit<'_>]) -> Option<Made> {
    let mut ids = answers.lines().filter(|line| super::tree::is_id(line)).map(str::to_owned);
    let mut files = Vec::with_capacity(commits.len());
    for commit in commits {
        match commit.files.first() {
            Some((_, Some(_))) => files.push(Some(ids.next()?)),
            _ => files.push(None),
        }
    }
    let commit = ids.next()?;
    ids.next().is_none().then_some(Made { commit, files })
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    #[test]
    fn a_stream_says_all_there_is() {
        let (record, hint) = (Bytes::from_static(b"{\n}"), Bytes::from_static(b"{}"));
        let commits = [
            Commit {
                message: message::of("p/versions/1", Some(&record)),
                files: vec![("p/versions/1".into(), Some(&record)), ("p/tags/latest".into(), Some(&hint))],
            },
            Commit {
                message: message::of("_sacker/probe/x", None),
                files: vec![("_sacker/probe/x".into(), None)],
            },
        ];
        let base = "ab".repeat(20);
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let stream = String::from_utf8(write(Some(&base), &commits, now, "id")).expect("text");
        let expected = format!(
            "feature done\nblob\nmark :1\ndata 3\n{{\n}}\nblob\nmark :2\ndata 2\n{{}}\ncommit refs/sacker/new/id\nmark :3\n\
             author sacker <sacker@sacker.invalid> 1700000000 +0000\ncommitter sacker <sacker@sacker.invalid> \
             1700000000 +0000\ndata 17\np: add version 1\n\nfrom {base}\nM 100644 :1 p/versions/1\nM 100644 :2 \
             p/tags/latest\n\ncommit refs/sacker/new/id\nmark :4\nauthor sacker <sacker@sacker.invalid> 1700000000 \
             +0000\ncommitter sacker <sacker@sacker.invalid> 1700000000 +0000\ndata 23\nremove \
             _sacker/probe/x\n\nD _sacker/probe/x\n\nget-mark :1\nget-mark :4\nreset \
             refs/sacker/new/id\nfrom {}\n\ndone\n",
            "0".repeat(40)
        );
        assert_eq!(stream, expected);
        let (blob, last) = ("cd".repeat(20), "ef".repeat(20));
        let made = read(&format!("{blob}\n{last}\n"), &commits).expect("answers");
        assert_eq!(made, Made { commit: last.clone(), files: vec![Some(blob.clone()), None] });
        assert_eq!(read(&format!("{blob}\n"), &commits), None);
        assert_eq!(read(&format!("{blob}\n{last}\n{last}\n"), &commits), None);
    }
}
