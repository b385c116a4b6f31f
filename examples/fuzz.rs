//! The fuzzer over one decoder: `SACKER_FUZZ_TARGET=<name> fuzz [libFuzzer flags] CORPUS...`. `fuzz/run` builds it with the
//! coverage that guides it, and calls it for every target; `SACKER_FUZZ_TARGET=list` prints their names.

#![no_main]
#![expect(clippy::print_stdout, clippy::exit, reason = "libFuzzer has the main function")]
#![expect(clippy::panic, reason = "a wrong name of a target ends the run")]

use std::sync::OnceLock;

use sacker::environment::Environment;
use sacker::fuzz::{TARGETS, Target};

const VARIABLE: &str = "SACKER_FUZZ_TARGET";

fn target() -> &'static Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let environment = Environment::of_process();
        let wanted = environment.get(VARIABLE).unwrap_or_default();
        TARGETS
            .into_iter()
            .find(|(name, _)| *name == wanted)
            .unwrap_or_else(|| panic!("no target '{wanted}'"))
    })
}

libfuzzer_sys::fuzz_target!(
    init: {
        if Environment::of_process().get(VARIABLE) == Some("list") {
            for (name, _) in TARGETS {
                println!("{name}");
            }
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        (target().1)(data);
    }
);
