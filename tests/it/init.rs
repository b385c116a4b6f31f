//! `sacker-init` as a process, on real ledgers and stores: what it puts in place, and how it explains what it does not.

mod home;
mod hostile;
mod volumes;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use sacker::model::{Sha256, VersionRecord};

use self::home::{Home, PACKAGE, Ran, move_tag};
use crate::fetch::{names, noise};
use crate::support::eventually;
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::testbed::{self, S3Server};
use crate::support::tier;

/// Where the servers of a test are.
#[derive(Debug, Clone, Copy)]
enum Place {
    File,
    Minio,
    Versitygw,
    /// The ledger on DynamoDB Local, the store on versitygw.
    Dynamo,
}

impl Place {
    fn server(self) -> Option<S3Server> {
        match self {
            Self::File => None,
            Self::Minio => testbed::minio(),
            Self::Versitygw | Self::Dynamo => testbed::versitygw(),
        }
    }

    async fn home(self) -> Option<Home> {
        match self {
            Self::File => Some(Home::file().await),
            Self::Minio | Self::Versitygw => Some(Home::s3(&self.server()?).await),
            Self::Dynamo => Some(Home::dynamo(&testbed::dynamodb()?, &self.server()?).await),
        }
    }
}

/// The one line that a blob in its place gives.
fn line(path: &Path, record: &VersionRecord) -> String {
    format!("{}\t{}@{}\t{}\n", path.display(), record.package, record.version, record.sha256)
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).expect("the file is there")
}

#[rstest]
#[tokio::test]
async fn a_spec_and_a_pinned_spec(
    #[values(Place::File, Place::Minio, Place::Versitygw, Place::Dynamo)] place: Place,
) {
    let Some(mut home) = place.home().await else { return };
    let bytes = noise(3_000_000);
    let first = home.add(b"first").await;
    let second = home.add_as(PACKAGE, &bytes, "app.jar", 0o100_755).await;
    home.tag("live", &first).await;
    let path = home.out().join("app.jar");

    let ran = home.run(&["frontend-server@live", "--to", "./"]);
    ran.expect(0, "frontend-server@live is version");
    assert_eq!(ran.stdout, line(Path::new("app.jar"), &first));
    assert_eq!(content(&path), "first");

    let ran = home.run(&["frontend-server@latest", "--to", path.to_str().expect("UTF-8"), "-q"]);
    ran.expect(0, "");
    assert_eq!((ran.stdout, ran.stderr.as_str()), (line(&path, &second), ""));
    assert!(fs::read(&path).expect("the file") == bytes);
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o7777, 0o755);

    // Nothing but the store is needed, and nothing else is looked at.
    home.set("SACKER_LEDGER", "nonsense").set("SACKER_PIN", format!("{}\n", first.pinned()));
    home.set("SACKER_TO", path.to_str().expect("UTF-8")).set("SACKER_MODE", "0555");
    let ran = home.run(&[]);
    ran.expect(0, "");
    assert_eq!(ran.stdout, line(&path, &first));
    assert_eq!(content(&path), "first");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o7777, 0o555);
    assert_eq!(home.names(), ["app.jar"]);
}

#[tokio::test]
async fn a_mounted_config_map() {
    let home = Home::file().await;
    let record = home.add(b"bytes").await;
    let live = home.path("live");
    fs::write(&live, format!("{}\n", record.pinned())).expect("written");
    let live = live.to_str().expect("UTF-8");

    home.run(&["--pin-file", live, "--to", "./"]).expect(2, "no file name is known for 'frontend-server@1'");
    fs::write(home.path("live.basename"), "from-the-map.jar").expect("written");
    home.run(&["--pin-file", live, "--to", "./"]).expect(0, "");
    assert_eq!(home.names(), ["from-the-map.jar"]);
    home.run(&["--pin-file", "/nowhere/live", "--to", "./"])
        .expect(8, "'/nowhere/live'")
        .expect(8, "hint: mount");
    fs::write(home.path("live"), "frontend-server@live").expect("written");
    home.run(&["--pin-file", live, "--to", "./"]).expect(2, "live' does not hold a pinned spec");
}

#[tokio::test]
async fn several_side_by_side() {
    let home = Home::file().await;
    let mut arguments = Vec::new();
    let mut expected = String::new();
    for number in 0..10 {
        let package = format!("team/package-{number}");
        let bytes = noise(100_000 + number);
        let record = home.add_as(&package, &bytes, &format!("{number}.bin"), 0o100_644).await;
        let (spec, path) = match number % 3 {
            0 => (format!("{package}@latest"), format!("{number}.bin")),
            1 => (format!("{package}@1=x{number}"), format!("x{number}")),
            _ => (format!("{}=y{number}", record.pinned()), format!("y{number}")),
        };
        arguments.push(spec);
        expected.push_str(&line(Path::new(&path), &record));
    }
    arguments.extend(["--to".to_owned(), "./".to_owned()]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let ran = home.run(&arguments);
    ran.expect(0, "");
    assert_eq!(ran.stdout, expected);
    assert_eq!(home.names().len(), 10);
}

#[tokio::test]
async fn one_failure_ends_all_and_leaves_no_partial_file() {
    let home = Home::file().await;
    let whole = home.add(&noise(2_000_000)).await;
    let gone = home.add(b"gone").await;
    fs::remove_file(home.find(&gone.sha256.to_string())).expect("the blob is removed");
    let ran = home.run(&["frontend-server@1=a", "frontend-server@2=b", "frontend-server@1=c"]);
    ran.expect(3, &format!("no blob {}", gone.sha256));
    assert_eq!(ran.stdout, "");
    for name in home.names() {
        assert_eq!(Sha256::of(&fs::read(home.out().join(name)).expect("the file")), whole.sha256);
    }

    let ran = home.run(&["frontend-server@1", "frontend-server@2", "--to", "./"]);
    ran.expect(2, "'frontend-server@1' and 'frontend-server@2' both go to 'app.jar'");
}

#[tokio::test]
async fn a_repeated_run_keeps_the_file_and_needs_no_store() {
    let mut home = Home::file().await;
    let record = home.add(b"bytes").await;
    home.run(&["frontend-server@1", "--to", "./"]).expect(0, "is in place");
    home.set("SACKER_STORE", "file:///nowhere/at/all");
    let ran = home.run(&["frontend-server@1", "--to", "./"]);
    ran.expect(0, "was there already");
    assert_eq!(ran.stdout, line(Path::new("app.jar"), &record));
}

#[tokio::test]
async fn wrong_usage_is_exit_2() {
    let mut home = Home::file().await;
    home.add(b"bytes").await;
    for (arguments, message) in [
        (&[][..], "nothing is named"),
        (&["frontend-server@live"], "no destination is given for 'frontend-server@live'"),
        (&["frontend-server", "--to", "./"], "'frontend-server' names no version"),
        (&["frontend-server@99999999999999999999", "--to", "./"], "is not a number from 1 to"),
        (&["frontend-server@1+sha256:12", "--to", "x"], "'12' is not a sha256"),
        (&["../etc@1", "--to", "./"], "package name '../etc' is not allowed"),
        (&["frontend-server@no tag", "--to", "./"], "tag 'no tag' is not allowed"),
        (&["--pin", "$(SACKER_PIN)", "--to", "x"], "the container needs a variable 'SACKER_PIN'"),
        (&["--what", "--to", "x"], "invalid option '--what'"),
        (&["frontend-server@1", "--to", "x", "--timeout", "soon"], "time-out 'soon' is not a time"),
        (&["frontend-server@1", "--to", ".."], "neither a directory nor a file name"),
        (&["frontend-server@1", "--to", "x", "--store", "ftp://x"], "'ftp' is not a kind of store"),
        (&["frontend-server@1", "--to", "x", "--ledger", "s3://a:b@c"], "credentials never stand in a URI"),
    ] {
        // `..` is a directory; its own name is what is wrong.
        let arguments: Vec<_> =
            arguments.iter().map(|&part| if part == ".." { "x/.." } else { part }).collect();
        let ran = home.run(&arguments);
        ran.expect(2, message);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert_eq!((ran.stdout.as_str(), home.names()), ("", Vec::new()));
    }
    home.set("SACKER_STORE", "");
    home.run(&["frontend-server@1", "--to", "x"])
        .expect(2, "no store is set")
        .expect(2, "hint: give --store");
    home.set("SACKER_LEDGER", "");
    home.run(&["frontend-server@1", "--to", "x", "--store", "file:///x"]).expect(2, "no ledger is set");
}

#[rstest]
#[tokio::test]
async fn what_does_not_exist_is_exit_3(
    #[values(Place::File, Place::Minio, Place::Versitygw, Place::Dynamo)] place: Place,
) {
    let Some(home) = place.home().await else { return };
    let record = home.add(b"bytes").await;
    home.run(&["backend@live", "--to", "./"])
        .expect(3, "error: no package 'backend'\n")
        .expect(3, "hint: 'sacker list --ledger ");
    home.run(&["frontend-server@7000000000000000000", "--to", "./"])
        .expect(3, "error: package 'frontend-server' has no version 7000000000000000000\n")
        .expect(3, "hint: 'sacker versions frontend-server --ledger ");
    home.run(&["frontend-server@live", "--to", "./"])
        .expect(3, "error: package 'frontend-server' has no tag 'live'\n")
        .expect(3, "hint: 'sacker tags frontend-server --ledger ");
    let absent = Sha256::of(b"never stored");
    home.run(&[&format!("frontend-server@{}+sha256:{absent}=x", record.version)])
        .expect(3, &format!("error: no blob {absent} (cannot fetch the blob: frontend-server@"))
        .expect(3, "hint: check that '");
    assert_eq!(home.names(), [""; 0]);
}

#[tokio::test]
async fn wrong_bytes_are_exit_5_and_the_old_file_stays() {
    let home = Home::file().await;
    let record = home.add(&noise(1_000_000)).await;
    let blob = home.find(&record.sha256.to_string());
    let right = fs::read(&blob).expect("the blob");
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("the blob can be spoiled");
    let path = home.out().join("app.jar");
    fs::write(&path, "old").expect("written");
    let mut flipped = right.clone();
    flipped[500_000] ^= 1;
    let longer = [&right[..], b"x"].concat();
    for (spoiled, message) in [
        (&flipped[..], "the blob's bytes have sha256"),
        (&right[..999_999], "the blob has 999999 bytes, 1000000 were recorded"),
        (&longer, "the blob has 1000001 bytes, 1000000 were recorded"),
        (b"", "the blob has 0 bytes"),
    ] {
        fs::write(&blob, spoiled).expect("the blob is spoiled");
        let ran = home.run(&["frontend-server@1", "--to", "./"]);
        ran.expect(5, message).expect(5, "frontend-server@1").expect(5, &record.sha256.to_string());
        assert_eq!((content(&path).as_str(), ran.stdout.as_str()), ("old", ""));
        home.run(&[&format!("{}=app.jar", record.pinned())]).expect(5, "the blob's bytes have sha256");
        assert_eq!(content(&path), "old");
        assert_eq!(home.names(), ["app.jar"]);
    }
}

#[tokio::test]
async fn hostile_records_are_exit_5_and_reach_nothing() {
    let home = Home::file().await;
    let long = "x".repeat(300);
    for (number, hostile) in ["../../x", "../x", "/etc/sacker-test", "a/b", "..", &long].iter().enumerate() {
        let package = format!("hostile-{number}");
        home.add_as(&package, b"bytes", "app.jar", 0o104_755).await;
        let file = home.find(&format!("{package}/versions/1"));
        fs::write(&file, content(&file).replace("app.jar", hostile)).expect("the record is spoiled");
        let parents = (names(&home.path("")), names(&home.path("..")).len());
        home.run(&[&format!("{package}@1"), "--to", "./"])
            .expect(5, "corrupt: the recorded file name '")
            .expect(5, "hint: name the file");
        assert_eq!(home.names(), [""; 0]);
        assert_eq!(names(&home.path("")), parents.0);
        // Mode bits that are as hostile are dropped.
        home.run(&[&format!("{package}@1=chosen")]).expect(0, "");
        let mode = fs::metadata(home.out().join("chosen")).expect("the file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        fs::remove_file(home.out().join("chosen")).expect("removed");
    }
    assert!(!Path::new("/etc/sacker-test").exists());
}

#[rstest]
#[tokio::test]
async fn wrong_credentials_are_exit_6(#[values(Place::Minio, Place::Versitygw)] place: Place) {
    let Some(mut home) = place.home().await else { return };
    let record = home.add(b"bytes").await;
    let pinned = format!("{}=x", record.pinned());
    home.set("AWS_SECRET_ACCESS_KEY", "wrong");
    home.run(&[&pinned]).expect(6, "error: access denied: s3:GetObject").expect(6, "hint: ");
    home.run(&["frontend-server@latest=x"]).expect(6, "error: access denied: ");
    home.set("AWS_ACCESS_KEY_ID", "").set("AWS_SECRET_ACCESS_KEY", "");
    let start = Instant::now();
    let ran = home.run(&[&pinned]);
    ran.expect(6, "credentials");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(home.names(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_down_is_exit_7_in_time() {
    let mut home = Home::file().await;
    let record = home.add(b"bytes").await;
    home.set("AWS_ACCESS_KEY_ID", "a").set("AWS_SECRET_ACCESS_KEY", "b");
    // Nobody listens there; somebody who does may not answer.
    let closed = testbed::free_ports(1)[0];
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute_port = mute.local_addr().expect("it is bound").port();
    for port in [closed, mute_port] {
        let store = format!("s3://bucket?endpoint=http://127.0.0.1:{port}");
        let start = Instant::now();
        let pinned = format!("{}=x", record.pinned());
        let ran = home.run(&[&pinned, "--store", &store, "--timeout", "4s"]);
        ran.expect(7, "error: the backend is unavailable");
        assert!(
            ["connection refused", "no answer in time"].iter().any(|why| ran.stderr.contains(why)),
            "{}",
            ran.stderr
        );
        home.run(&["frontend-server@1=x", "--ledger", &store, "--timeout", "4s"])
            .expect(7, "error: the backend is unavailable");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
    assert_eq!(home.names(), [""; 0]);
}

/// Runs `sacker-init` with `$dir` as a mount that is seen by nobody else, and lists what is left in it. Nothing where
/// this user may not mount.
fn run_in_mount(home: &Home, options: &str, arguments: &[&str]) -> Option<(Ran, String)> {
    let dir = home.path("mount");
    fs::create_dir_all(&dir).expect("a directory");
    let script = r#"mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
        cd "$2"; shift 2; "$@"; code=$?; echo "left: $(ls -A)"; exit "$code""#;
    let user = if rustix::process::geteuid().is_root() { &["--mount"][..] } else { &["-r", "--mount"] };
    let inner = home.command(arguments);
    let output = Command::new("unshare")
        .args(user)
        .args(["sh", "-c", script, "sh", options])
        .arg(&dir)
        .arg(inner.get_program())
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output();
    match output.map(Ran::from) {
        Ok(ran) if ran.code != Some(99) && !ran.stderr.starts_with("unshare:") => {
            let left =
                ran.stdout.split_once("left: ").map_or("no listing", |(_, left)| left.trim()).to_owned();
            Some((ran, left))
        }
        other => {
            let reason = other.map_or_else(|error| error.to_string(), |ran| ran.stderr);
            let ci = sacker::environment::Environment::of_process().get("CI") == Some("true");
            assert!(!ci, "this user cannot mount: {reason}");
            let message = format!("SKIPPED: a full disk needs a mount: {reason}\n");
            // Past the capture of the test harness, so that it is seen.
            let _ = std::io::stderr().write_all(message.as_bytes());
            None
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_exit_8_with_numbers() {
    let home = Home::file().await;
    let large = home.add(&noise(16 << 20)).await;
    let small = home.add(b"bytes").await;
    let start = Instant::now();

    // Known from the record, and known only from the store.
    for argument in ["frontend-server@1=app.jar".to_owned(), format!("{}=app.jar", large.pinned())] {
        let Some((ran, left)) = run_in_mount(&home, "size=8m", &[&argument]) else { return };
        ran.expect(8, "error: not enough space for 'app.jar': 16777216 bytes needed, 8388608 bytes free\n");
        ran.expect(8, "hint: give the volume more space");
        assert_eq!(left, "");
    }
    let Some((ran, left)) = run_in_mount(&home, "size=8m,nr_inodes=1", &["frontend-server@2=app.jar"]) else {
        return;
    };
    ran.expect(8, "not enough space for 'app.jar': 5 bytes needed, 8388608 bytes free");
    assert_eq!(left, "");
    let Some((ran, left)) = run_in_mount(&home, "size=8m,ro", &["frontend-server@2=app.jar"]) else { return };
    ran.expect(8, "cannot write 'app.jar': read-only file system").expect(8, "hint: mount a writable volume");
    assert_eq!(left, "");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    let Some((ran, left)) = run_in_mount(&home, "size=8m", &["frontend-server@2=app.jar"]) else { return };
    ran.expect(0, "");
    assert!(ran.stdout.starts_with(&line(Path::new("app.jar"), &small)), "{}", ran.stdout);
    assert_eq!(left, "app.jar");
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_exit_8() {
    let home = Home::file().await;
    // Two at a time fit by their records each, not together.
    let record = home.add(&noise(6 << 20)).await;
    let arguments = [format!("{}=a", record.pinned()), format!("{}=b", record.pinned())];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let Some((ran, left)) = run_in_mount(&home, "size=8m", &arguments) else { return };
    ran.expect(8, "error: not enough space for '").expect(8, ": 6291456 bytes needed, ");
    assert!(["", "a", "b"].contains(&left.as_str()), "{left}");
}

#[tokio::test]
async fn a_bad_destination_is_exit_8() {
    let home = Home::file().await;
    home.add(b"bytes").await;
    home.run(&["frontend-server@1", "--to", "missing/"])
        .expect(8, "cannot open the directory 'missing/': no such file or directory")
        .expect(8, "hint: create the directory, or mount a volume there");

    let path = home.out().join("app.jar");
    symlink("/etc/passwd", &path).expect("a link");
    home.run(&["frontend-server@1", "--to", "./"])
        .expect(8, "cannot write 'app.jar': a symbolic link is there");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a directory");
    home.run(&["frontend-server@1", "--to", "./"]).expect(8, "cannot write 'app.jar': a directory is there");
    assert_eq!(names(&path), [""; 0]);
    fs::remove_dir(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    home.run(&["frontend-server@1", "--to", "./"]).expect(8, "cannot write 'app.jar': a FIFO is there");
    fs::remove_file(&path).expect("removed");

    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(home.out(), fs::Permissions::from_mode(0o555)).expect("the directory is closed");
        home.run(&["frontend-server@1", "--to", "./"])
            .expect(8, "cannot write 'app.jar': permission denied")
            .expect(8, "must be writable for user");
        fs::set_permissions(home.out(), fs::Permissions::from_mode(0o755)).expect("the directory is opened");
    }
    assert_eq!(home.names(), [""; 0]);
}

/// A store behind a gate, a pinned spec, and the ledger reached directly. One entry of `script` per reading of a blob, in
/// order; where `stays`, the last one repeats.
async fn behind_a_gate(
    place: Place,
    bytes: &[u8],
    script: &[Action],
    stays: Stays,
) -> Option<(Home, Gate, VersionRecord)> {
    let server = place.server()?;
    let mut home = Home::s3(&server).await;
    let record = home.add(bytes).await;
    let gate = Gate::start(&server.endpoint, 1);
    for (index, action) in script.iter().enumerate() {
        let rule = Rule::new(Match::target("GetObject"), action.clone());
        let repeats = matches!(stays, Stays::Bad) && index + 1 == script.len();
        gate.add_rule(if repeats { rule } else { rule.times(1) });
    }
    let store = home.store.place();
    assert!(store.contains(&server.endpoint), "{store}");
    home.set("SACKER_STORE", store.replace(&server.endpoint, &gate.url()));
    Some((home, gate, record))
}

/// What becomes of a connection after the script.
#[derive(Debug, Clone, Copy)]
enum Stays {
    Good,
    Bad,
}

const SIZE: usize = 6 << 20;

#[rstest]
#[tokio::test]
async fn broken_and_stalled_connections_are_taken_up(#[values(Place::Minio, Place::Versitygw)] place: Place) {
    let script = [Action::Truncate(300_000), Action::Stall(2_000_000), Action::Reset(1_000_000)];
    let bytes = noise(SIZE);
    let Some((home, gate, record)) = behind_a_gate(place, &bytes, &script, Stays::Good).await else {
        return;
    };
    let ran = home.run(&[&format!("{}=app.jar", record.pinned()), "--stall-timeout", "1s"]);
    ran.expect(0, "going on at byte");
    assert!(fs::read(home.out().join("app.jar")).expect("the file") == bytes);
    assert_eq!(home.names(), ["app.jar"]);
    assert!(gate.log().len() >= 4, "{}", gate.log().len());
}

#[rstest]
#[case::silent(Action::Stall(1_000_000), 7)]
#[case::closed(Action::Truncate(1_000_000), 7)]
#[case::flipped(Action::Flip(1_000_000), 5)]
#[tokio::test]
async fn a_connection_that_stays_bad_leaves_the_old_file(
    #[values(Place::Minio, Place::Versitygw)] place: Place,
    #[case] fault: Action,
    #[case] code: i32,
) {
    let Some((home, _gate, record)) = behind_a_gate(place, &noise(SIZE), &[fault], Stays::Bad).await else {
        return;
    };
    fs::write(home.out().join("app.jar"), "old").expect("written");
    let start = Instant::now();
    let arguments = [&format!("{}=app.jar", record.pinned()), "--stall-timeout", "500ms", "--timeout", "20s"];
    home.run(&arguments).expect(code, "error: ");
    assert!(start.elapsed() < Duration::from_secs(22), "{:?}", start.elapsed());
    assert_eq!(content(&home.out().join("app.jar")), "old");
    assert_eq!(home.names(), ["app.jar"]);
}

#[tokio::test]
async fn the_time_out_holds_for_the_whole_run() {
    let script = [Action::Stall(1_000_000)];
    let Some((home, _gate, record)) = behind_a_gate(Place::Minio, &noise(SIZE), &script, Stays::Bad).await
    else {
        return;
    };
    let start = Instant::now();
    home.run(&[&format!("{}=app.jar", record.pinned()), "--timeout", "2s"])
        .expect(7, "came within 2s)\n")
        .expect(7, "hint: ");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(home.names(), [""; 0]);
}

#[tokio::test]
async fn a_tag_that_moves_when_its_blob_goes_is_resolved_again() {
    let Some((mut home, gate, old)) = behind_a_gate(Place::Minio, b"old", &[Action::Hold], Stays::Good).await
    else {
        return;
    };
    let new = home.add(b"new").await;
    home.tag("live", &old).await;
    // The old blob is gone: a bucket that only the new one is in.
    let Some(server) = Place::Minio.server() else { return };
    let other = Home::s3(&server).await;
    other.add(b"new").await;
    home.set("SACKER_STORE", other.store.place().replace(&server.endpoint, &gate.url()));

    let mut command = home.command(&["frontend-server@live=app.jar"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sacker-init starts");
    eventually("the old blob is asked for", Duration::from_secs(20), async || gate.held() == 1).await;
    move_tag(home.ledger.as_ref(), "live", &new).await;
    gate.release();
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    ran.expect(0, &format!("frontend-server@live is version {}", old.version));
    ran.expect(0, &format!("frontend-server@live is version {}", new.version));
    assert_eq!(ran.stdout, line(Path::new("app.jar"), &new));
    assert_eq!(content(&home.out().join("app.jar")), "new");
}

#[rstest]
#[case::terminated("TERM")]
#[case::interrupted("INT")]
#[tokio::test]
async fn a_signal_leaves_nothing_behind(#[case] signal: &str) {
    let script = [Action::Stall(3_000_000)];
    let Some((home, _gate, record)) = behind_a_gate(Place::Minio, &noise(SIZE), &script, Stays::Bad).await
    else {
        return;
    };
    fs::write(home.out().join("app.jar"), "old").expect("written");
    let log = home.path("termination-log");
    let mut child = home
        .command(&[
            &format!("{}=app.jar", record.pinned()),
            "--termination-log",
            log.to_str().expect("UTF-8"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sacker-init starts");
    eventually("a temporary file is written to", Duration::from_secs(20), async || {
        home.names().iter().any(|name| {
            name.starts_with(".sacker-")
                && fs::metadata(home.out().join(name)).is_ok_and(|found| found.len() > 1_000_000)
        })
    })
    .await;
    let kill = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    eventually("it ends", Duration::from_secs(5), async || {
        child.try_wait().expect("it can be waited for").is_some()
    })
    .await;
    let ran = Ran::from(child.wait_with_output().expect("it has ended"));
    ran.expect(130, "error: interrupted\n");
    assert_eq!(ran.stdout, "");
    assert_eq!(home.names(), ["app.jar"]);
    assert_eq!(content(&home.out().join("app.jar")), "old");
    assert_eq!(content(&log), "error: interrupted");
}

#[tokio::test]
async fn a_run_after_a_killed_one_removes_what_it_left() {
    let bytes = noise(SIZE);
    let script = [Action::Stall(3_000_000)];
    let Some((home, _gate, record)) = behind_a_gate(Place::Minio, &bytes, &script, Stays::Good).await else {
        return;
    };
    let argument = format!("{}=app.jar", record.pinned());
    let mut child = home.command(&[&argument]).stderr(Stdio::null()).spawn().expect("sacker-init starts");
    eventually("a temporary file is there", Duration::from_secs(20), async || home.names().len() == 1).await;
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    assert!(home.names()[0].starts_with(".sacker-"));
    home.run(&[&argument]).expect(0, "");
    assert_eq!(home.names(), ["app.jar"]);
    assert!(fs::read(home.out().join("app.jar")).expect("the file") == bytes);
}

#[tokio::test]
async fn kills_at_random_moments_never_spoil_the_file() {
    let home = Home::file().await;
    let (bytes, other_bytes) = (noise(24 << 20), noise(20 << 20));
    let blobs = [(home.add(&bytes).await, bytes), (home.add(&other_bytes).await, other_bytes)];
    let mut random = fastrand::Rng::with_seed(tier::seed("kill -9 during downloads"));
    let path = home.out().join("app.jar");
    let (rounds, mut cut_short) = (tier::figure(20, 100), 0);
    for round in 0..rounds {
        let argument = format!("{}=app.jar", blobs[round % 2].0.pinned());
        let before = home.names();
        let mut child = home
            .command(&[&argument])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sacker-init starts");
        std::thread::sleep(Duration::from_millis(random.u64(0..80)));
        if round % 4 < 2 {
            child.kill().expect("it is killed");
        } else {
            let kill = Command::new("kill").arg(child.id().to_string()).status();
            assert!(kill.expect("kill runs").success());
        }
        let status = child.wait().expect("it ends");
        cut_short += usize::from(!status.success());
        match fs::read(&path) {
            Ok(found) => assert!(blobs.iter().any(|(_, bytes)| *bytes == found), "round {round}: {status}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        // Killed ones may leave something, until a later one comes far enough to remove it.
        if status.code().is_some() {
            // What had arrived stays for the run that the kubelet starts next.
            let partial = format!(".sacker-{}.partial", blobs[round % 2].0.sha256);
            let own = |name: &String| *name != "app.jar" && *name != partial && !before.contains(name);
            assert_eq!(home.names().into_iter().find(own), None, "round {round}");
        }
    }
    for (record, bytes) in &blobs {
        home.run(&[&format!("{}=app.jar", record.pinned())]).expect(0, "");
        assert_eq!(home.names(), ["app.jar"]);
        assert!(fs::read(&path).expect("the file") == *bytes);
    }
    tier::summary(&format!("R25 runs={rounds} cut short={cut_short}"));
    assert!(cut_short > 0, "some are killed before they are done");
}

/// Bytes of memory that a process had at most so far.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the line is there");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

#[tokio::test]
async fn memory_does_not_grow_with_the_blob() {
    const LARGE: usize = 96 << 20;
    let script = [Action::Stall(LARGE as u64 - 1000)];
    let Some((home, _gate, record)) = behind_a_gate(Place::Minio, &noise(LARGE), &script, Stays::Bad).await
    else {
        return;
    };
    let argument = format!("{}=app.jar", record.pinned());
    let mut child = home.command(&[&argument]).stderr(Stdio::null()).spawn().expect("sacker-init starts");
    eventually("nearly all is written", Duration::from_mins(1), async || {
        home.names().iter().any(|name| {
            fs::metadata(home.out().join(name)).is_ok_and(|found| found.len() > LARGE as u64 - (1 << 20))
        })
    })
    .await;
    let peak = peak_memory(child.id());
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    // The limit of the released binary is 32 MiB; a debug build has larger code.
    assert!(peak < 48 << 20, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn the_last_words_are_for_the_kubelet() {
    let mut home = Home::file().await;
    home.add(b"bytes").await;
    let log = home.path("termination-log");
    home.set("SACKER_TERMINATION_LOG", log.to_str().expect("UTF-8"));
    home.run(&["frontend-server@1", "--to", "./"]).expect(0, "");
    assert!(!log.exists(), "success has no last words");
    home.run(&["frontend-server@live", "--to", "./"]).expect(3, "");
    let words = content(&log);
    assert!(words.starts_with("error: package 'frontend-server' has no tag 'live'\nhint: "), "{words}");
    // Also where the command line itself is what is wrong.
    home.run(&["--what"]).expect(2, "");
    assert!(content(&log).starts_with("error: invalid option '--what'"));
}

#[tokio::test]
async fn help_and_version_need_nothing() {
    let home = Home::file().await;
    for arguments in [["--help"], ["-h"]] {
        let ran = home.run(&arguments);
        ran.expect(0, "");
        assert!(ran.stdout.starts_with("sacker-init frontend-server@live --to /artifacts/app.jar\n"));
        for word in ["SACKER_LEDGER", "SACKER_TERMINATION_LOG", "Exit codes:", "130 interrupted"] {
            assert!(ran.stdout.contains(word), "{word}");
        }
    }
    let ran = home.run(&["--version"]);
    ran.expect(0, "");
    assert_eq!(ran.stdout, concat!("sacker-init ", env!("CARGO_PKG_VERSION"), "\n"));
}
