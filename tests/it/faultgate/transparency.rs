//! Without rules nobody notices the gate: the same bytes, hardly later, about as many a second.

use std::time::{Duration, Instant};

use super::backend::{Backend, Client, Ended, Reply, content, request};
use crate::support::faultgate::Gate;
use crate::support::tier;

/// Requests of all shapes: methods, odd paths and headers, bodies of all sizes.
fn shapes(seed: u64, count: usize) -> Vec<(Vec<u8>, bool)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let paths = [
        "/bytes/0",
        "/bytes/1",
        "/bytes/70000",
        "/chunked",
        "/a%2Fb/c%20d+e/",
        "/%E2%82%AC?x-id=PutObject",
        "/?list-type=2&prefix=a%2F&delimiter=%2F",
        "/bucket//double/./dot/../dots",
        "/bytes/100?a&b=&=c",
    ];
    let headers = [
        "",
        "X-Amz-Date: 20260801T120000Z\r\n",
        "x-aMz-mEta-Case: Kept Case  inside\r\n",
        "If-None-Match: *\r\n",
        "Range: bytes=0-9\r\nAccept-Encoding: identity\r\n",
        "X-Amz-Content-SHA256: UNSIGNED-PAYLOAD\r\n",
    ];
    let methods = ["GET", "PUT", "POST", "HEAD", "DELETE"];
    let mut shape = || {
        let method = methods[random.usize(..methods.len())];
        let more: String = (0..random.usize(..4)).map(|_| headers[random.usize(..headers.len())]).collect();
        // A header twice would be grouped: no client of ours sends one.
        let more = if headers.iter().any(|one| !one.is_empty() && more.matches(one).count() > 1) {
            String::new()
        } else {
            more
        };
        let size = match method {
            "PUT" | "POST" if random.u8(..20) == 0 => random.usize(..100_000),
            "PUT" | "POST" => random.usize(..500),
            _ => 0,
        };
        let path = paths[random.usize(..paths.len())];
        (request(method, path, &more, &content(size)), method != "HEAD")
    };
    (0..count).map(|_| shape()).collect()
}

fn run(url: &str, shapes: &[(Vec<u8>, bool)]) -> Vec<Reply> {
    let mut client = Client::connect(url, Duration::from_mins(1));
    let mut ask = |(request, has_body): &(Vec<u8>, bool)| {
        client.send(request);
        client.receive(*has_body)
    };
    shapes.iter().map(&mut ask).collect()
}

#[test]
fn ten_thousand_exchanges_are_the_same_bytes() {
    let seed = tier::seed("the same bytes through the gate");
    let shapes = shapes(seed, tier::figure(2000, 10_000));
    let (direct, behind) = (Backend::start(), Backend::start());
    let gate = Gate::start(&behind.url, seed);
    let replies = run(&direct.url, &shapes);
    assert!(replies.iter().all(|reply| reply.ended == Ended::Whole));
    let gated = run(&gate.url(), &shapes);
    for (index, (reply, gated)) in replies.iter().zip(&gated).enumerate() {
        assert_eq!(reply.head, gated.head, "the head of reply {index}");
        assert_eq!(reply.ended, gated.ended, "the end of reply {index}");
        assert!(reply.content() == gated.content(), "the body of reply {index}: {}", reply.head);
    }
    let (direct, behind) = (direct.take(), behind.take());
    assert_eq!((direct.len(), behind.len()), (shapes.len(), shapes.len()));
    for (sent, arrived) in direct.iter().zip(&behind) {
        assert_eq!(String::from_utf8_lossy(sent), String::from_utf8_lossy(arrived));
    }
    let log = gate.log();
    assert_eq!(log.len(), shapes.len());
    assert!(log.iter().all(|entry| entry.action.is_empty() && entry.ended.is_some()));
    let sent: usize = gated.iter().map(|reply| reply.content().len()).sum();
    let counted: u64 = log.iter().map(|entry| entry.bytes_out).sum();
    assert_eq!(counted, sent as u64);
    assert!(gate.hits().is_empty());
}

/// The middle one of how long an exchange takes.
fn median(url: &str, count: usize) -> Duration {
    let mut client = Client::connect(url, Duration::from_mins(1));
    let question = request("GET", "/bytes/100", "", b"");
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let start = Instant::now();
            client.send(&question);
            client.receive(true);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[count / 2]
}

#[test]
fn the_gate_adds_less_than_a_millisecond() {
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    // The best of three: the machine may be busy with other things.
    let added: Vec<Duration> =
        (0..3).map(|_| median(&gate.url(), 300).saturating_sub(median(&backend.url, 300))).collect();
    let best = added.iter().min().expect("three");
    eprintln!("faultgate: adds {best:?} to the median exchange");
    assert!(*best <= Duration::from_millis(1), "{added:?}");
}

#[test]
fn the_gate_passes_hundreds_of_megabytes_a_second() {
    const SIZE: usize = 256 << 20;
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    let question = request("GET", &format!("/zeros/{SIZE}"), "", b"");
    let rate = |url: &str| {
        let mut client = Client::connect(url, Duration::from_mins(1));
        let start = Instant::now();
        client.send(&question);
        let mut read = 0;
        while read < SIZE {
            read += client.skip();
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let rate = read as f64 / 1e6 / start.elapsed().as_secs_f64();
        rate
    };
    let direct = (0..3).map(|_| rate(&backend.url)).fold(0.0, f64::max);
    let gated = (0..3).map(|_| rate(&gate.url())).fold(0.0, f64::max);
    eprintln!("faultgate: passes {gated:.0} MB/s, directly {direct:.0} MB/s (debug build)");
    // A machine that is busy with other things passes less directly, too.
    assert!(gated >= 300.0 || gated >= direct / 4.0, "{gated} MB/s; directly {direct} MB/s");
}
