//! F7: no secret leaves. Every command runs with canaries where secrets stand, on backends that work and on some that do
//! not, as talkative as it can; then everything it said and left behind is searched for them.

mod commands;
mod core_dumps;
mod places;

use std::fs;
use std::path::PathBuf;

use aws_smithy_types::base64;

use crate::cli::home::{Home, files};

/// Words that must not be seen anywhere.
#[derive(Debug, Clone, Default)]
struct Canaries(Vec<String>);

impl Canaries {
    /// A word that is found nowhere else.
    fn word(&mut self, stem: &str) -> String {
        let word = format!("{stem}{}", uuid::Uuid::new_v4().simple());
        self.0.push(word.clone());
        word
    }

    /// A secret that somebody else made.
    fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 8, "a short word may be found by chance");
        self.0.push(secret.to_owned());
    }

    /// The first of them that is in `bytes`, as it is or as URLs and headers write it.
    fn find(&self, bytes: &[u8]) -> Option<&str> {
        let text = String::from_utf8_lossy(bytes);
        let is_in = |word: &&String| {
            let escaped: String = url::form_urlencoded::byte_serialize(word.as_bytes()).collect();
            [word.as_str(), &escaped, base64::encode(word).trim_end_matches('=')]
                .iter()
                .any(|form| text.contains(form))
        };
        self.0.iter().find(is_in).map(String::as_str)
    }

    /// The files of a home that have one of them, but for those that the test itself put there.
    fn find_in(&self, home: &Home, own: &[PathBuf]) -> Vec<PathBuf> {
        let mut found = files(&home.path(""));
        found.retain(|path| {
            let name = path.as_os_str().as_encoded_bytes();
            !own.contains(path)
                && (self.find(name).is_some()
                    || fs::read(path).is_ok_and(|bytes| self.find(&bytes).is_some()))
        });
        found
    }
}

#[test]
fn what_is_searched_for_would_be_found() {
    let mut canaries = Canaries::default();
    let word = canaries.word("canary");
    canaries.add("pass/word+with=signs");
    for said in [
        format!("error: cannot reach http://user:{word}@host/"),
        format!("authorization: {}", base64::encode(&word)),
        "GET /?token=pass%2Fword%2Bwith%3Dsigns".to_owned(),
    ] {
        assert!(canaries.find(said.as_bytes()).is_some(), "{said}");
    }
    assert_eq!(canaries.find(b"nothing of that kind"), None);

    let home = Home::new();
    let own = home.file("own", &word);
    assert_eq!(canaries.find_in(&home, std::slice::from_ref(&own)), [] as [PathBuf; 0]);
    let left = home.path("tmp").join("left");
    fs::write(&left, format!("\u{0}{word}")).expect("written");
    assert_eq!(canaries.find_in(&home, &[own]), [left]);
}
