//! The admin command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    sacker::core_dumps::forbid();
    sacker::cli::main()
}
