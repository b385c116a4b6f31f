//! `cold-creds`: what the environment names is asked, nothing else, and not for ever.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::super::judge::Bounds;
use super::super::process;
use super::super::{Bench, Result};
use super::download::{init, one_object};

const ROW: &str = "cold-creds";

/// Seconds for a provider that the environment names (ADR 16), and to start and end.
const NAMED: f64 = 10.5;

/// Seconds to find out that nobody has credentials.
const NONE: f64 = 2.0;

/// Environment variables, by name.
type Variables<'a> = [(&'a str, &'a str)];

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let (server, object) = one_object(bench, 1 << 10, &[])?;
    // One that no other row leaves behind: a file that is right already needs no credentials.
    let to = bench.work().join("never-there");
    let (metadata, asked) = black_hole()?;
    let (other, _) = black_hole()?;
    let token = bench.work().join("token");
    std::fs::write(&token, "token")?;
    let token = token.display().to_string();
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/bench"),
        ("AWS_ENDPOINT_URL_STS", &other),
    ];
    let pod = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", other.as_str())];
    let cases: [(&str, &Variables<'_>, f64); 3] = [
        ("web identity, STS silent", &web, NAMED),
        ("pod identity, agent silent", &pod, NAMED),
        ("no credentials", &[], NONE),
    ];
    for (case, settings, limit) in cases {
        let mut program = init(bench, &server, &object, &to);
        // The harness gives keys to all; here they would end the search.
        program = program.env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
        program = program.env("AWS_EC2_METADATA_DISABLED", "false");
        program = program.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata);
        for (name, value) in settings {
            program = program.env(name, *value);
        }
        program.fails = true;
        asked.store(0, Ordering::Relaxed);
        let seconds = process::run(&program, bench.work())?.seconds;
        bench.figure((ROW, case), "until the error", (seconds, "s"), Bounds::at_most(limit, limit));
        let requests = f64::from(asked.load(Ordering::Relaxed));
        bench.figure((ROW, case), "metadata service asked", (requests, "times"), Bounds::at_most(0.0, 0.0));
    }
    Ok(())
}

/// A server that takes connections and never answers; its URL, and how many it took.
fn black_hole() -> io::Result<(String, Arc<AtomicU32>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (url, asked) = (format!("http://{}", listener.local_addr()?), Arc::new(AtomicU32::new(0)));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
    });
    Ok((url, asked))
}
