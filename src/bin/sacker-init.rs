//! The init container: see [`sacker::init`].

use std::process::ExitCode;

use sacker::environment::Environment;

fn main() -> ExitCode {
    sacker::core_dumps::forbid();
    sacker::init::main(std::env::args_os(), &Environment::of_process()).into()
}
