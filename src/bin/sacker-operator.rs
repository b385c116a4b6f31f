//! The operator: see `sacker-operator --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sacker::core_dumps::forbid();
    sacker::controller::main(std::env::args_os()).into()
}
