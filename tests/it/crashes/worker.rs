//! A process for what the command line cannot do yet: this very test binary, started anew with one call to make.

use std::process::Command;

use sacker::connect::Connect;
use sacker::environment::Environment;
use sacker::ledger;
use sacker::model::{PackageName, Removal};

/// The ledger and the arguments, in the environment of the process.
const LEDGER: &str = "SACKER_TEST_LEDGER";
const ARGUMENTS: &str = "SACKER_TEST_ARGUMENTS";

/// Carries out `remove <package> <version>` in a process of its own.
pub(super) fn command(ledger: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    let test = concat!(module_path!(), "::process");
    let test = test.split_once("::").map_or(test, |(_, path)| path);
    command.env_clear().env(LEDGER, ledger).env(ARGUMENTS, arguments.join("\n"));
    command.args(["--ignored", "--exact", test, "--quiet"]);
    command
}

#[test]
#[ignore = "it is the process of other tests"]
fn process() {
    let environment = Environment::of_process();
    let arguments = environment.get(ARGUMENTS).expect("the arguments").to_owned();
    let arguments: Vec<&str> = arguments.lines().collect();
    let ["remove", package, version, ..] = arguments[..] else { panic!("{arguments:?}") };
    let uri = environment.get(LEDGER).expect("the ledger").parse().expect("a ledger URI");
    let connect = Connect { environment, instance_metadata: false, ..Connect::default() };
    let removal = Removal { at: connect.clock.now(), by: "crasher".into(), reason: Some("a test".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = ledger::open(&uri, &connect).await.expect("the ledger opens");
        let package = PackageName::existing(package);
        let version = version.parse().expect("a version");
        ledger.remove_version(&package, version, &removal).await.expect("it is removed");
    });
}
