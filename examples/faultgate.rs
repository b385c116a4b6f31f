//! faultgate as a process: a seeded fault proxy in front of S3, DynamoDB or anything that speaks HTTP; with `--tcp`, in
//! front of anything. For development only. See `tests/it/support/faultgate` and `docs/faultgate.md`.

#![allow(dead_code, unreachable_pub, reason = "the tests use the rest of the module")]
#![expect(clippy::print_stdout, reason = "the addresses are for whoever started it")]

#[allow(unused_imports, reason = "the tests use the rest of the module")]
#[path = "../tests/it/support/faultgate/mod.rs"]
mod faultgate;

use std::fs::File;
use std::path::PathBuf;

use clap::Parser;
use faultgate::{Gate, TcpGate, Upstream, parse_fault, parse_rules};

/// A fault proxy: passes requests on, and does to them what its rules say.
#[derive(Parser)]
struct Arguments {
    /// Where requests go: `http://host:port`, `https://host:port` with --ca, or `host:port` with --tcp.
    #[arg(long)]
    upstream: String,
    /// The authorities that the server's certificate may come from, as PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Where clients come.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Where rules can be changed and the log be read while it runs.
    #[arg(long)]
    admin: Option<String>,
    /// What the faults are drawn from. The same seed gives the same faults to the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rules, as YAML.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Where each request is noted, as JSON lines.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Pass bytes instead of requests, with this fault: `none`, `blackhole`, `swallow_reply`, `delay: 200ms`, `reset: 1000`,
    /// `throttle: 10000`.
    #[arg(long)]
    tcp: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(fault) = &arguments.tcp {
        let gate = TcpGate::start(&arguments.upstream, &arguments.listen)?;
        gate.set(parse_fault(fault)?);
        println!("listening on {}", gate.address());
        wait();
        return Ok(());
    }
    let log = arguments.log.map(File::create).transpose()?;
    let mut upstream = Upstream::new(&arguments.upstream);
    if let Some(path) = arguments.ca {
        upstream = upstream.trusting(&std::fs::read(path)?)?;
    }
    let gate = Gate::start_on(&upstream, arguments.seed, &arguments.listen, log)?;
    if let Some(path) = arguments.rules {
        gate.set_rules(parse_rules(&std::fs::read_to_string(path)?)?);
    }
    println!("listening on {} with seed {}", gate.url(), arguments.seed);
    if let Some(admin) = arguments.admin {
        println!("admin on http://{}", gate.admin(&admin)?);
    }
    wait();
    Ok(())
}

/// Until it is killed.
fn wait() {
    loop {
        std::thread::park();
    }
}
