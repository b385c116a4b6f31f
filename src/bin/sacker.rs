//! The admin command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    sacker::cli::main()
}
