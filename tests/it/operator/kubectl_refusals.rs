//! `kubectl sacker` where it is refused: rights, kinds, credentials, addresses; each with its exit code and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::bench::Bench;
use super::kubectl::Plugin;
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::faultgate::{Action, Match, Refusal, Rule};
use crate::support::process::Folder;
use crate::support::testbed::free_ports;
use crate::support::{eventually, unique};

/// Lets `user` read what `kubectl sacker` reads, in this namespace.
fn let_read(cluster: &Cluster, namespace: &str, user: &str) {
    let resources = "--resource=sackerpackages.sacker.dev,sackertags.sacker.dev";
    cluster.kubectl(&["-n", namespace, "create", "role", user, "--verb=get,list", resources]).success();
    let (role, who) = (format!("--role={user}"), format!("--user={user}"));
    cluster.kubectl(&["-n", namespace, "create", "rolebinding", user, &role, &who]).success();
}

#[tokio::test]
async fn a_tenant_needs_no_more_than_to_read_two_kinds() {
    let Some(bench) = Bench::new().await else { return };
    let (package, namespace) = (bench.package.as_str(), bench.namespace.as_str());
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.apply_package("frontend", "");
    bench.until_applied("live", 1).await;
    bench.until_package("frontend", "mirrored", |object| object["status"]["versionCount"] == 1).await;
    let tenant = unique("tenant");
    let_read(bench.cluster, namespace, &tenant);

    let allowed = Plugin::new(&bench.cluster.kubeconfig_as(&tenant));
    for words in [
        &["list"][..],
        &["versions", package],
        &["tags", package],
        &["info", package, "live"],
        &["history", package, "live"],
        &["resolve", package],
    ] {
        let ran = allowed.run(&[words, &["-n", namespace]].concat());
        assert!(!ran.answer().is_empty(), "{words:?}: {ran:?}");
    }
    let everywhere = allowed.run(&["list", "-A"]);
    assert_eq!(everywhere.code, Some(6), "{everywhere:?}");
    assert!(everywhere.stderr.contains("in all namespaces") && everywhere.stderr.contains("a ClusterRole"));

    let stranger = unique("stranger");
    let refused = Plugin::new(&bench.cluster.kubeconfig_as(&stranger));
    let ran = refused.run(&["tags", package, "-n", namespace]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: access denied: list on sacker"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("in namespace '{namespace}'")), "{ran:?}");
    assert!(ran.stderr.contains("hint: ask for a Role in it with the verbs get and list on"), "{ran:?}");
    let check = format!(".sacker.dev -n {namespace}");
    assert!(ran.stderr.contains("kubectl auth can-i list sacker") && ran.stderr.contains(&check), "{ran:?}");
}

#[test]
fn a_cluster_without_the_kinds() {
    let Some(cluster) = Cluster::start() else { return };
    let ran = Plugin::of(&cluster).run(&["list"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.stderr.contains("(sacker.dev/v1alpha1) does not exist\n"), "{ran:?}");
    assert!(ran.stderr.contains("hint: sacker is not installed in this cluster"), "{ran:?}");
    assert!(ran.stderr.contains("kubectl apply -f crds/"), "{ran:?}");
}

/// The administrator's kubeconfig of `cluster`, changed by `change`.
fn kubeconfig(cluster: &Cluster, folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).expect("YAML");
    change(&mut kubeconfig);
    let path = folder.join(unique("kubeconfig"));
    fs::write(&path, kubeconfig.to_string()).expect("written");
    path
}

/// A credential plugin that does this.
fn credential_plugin(folder: &Path, script: &str) -> Value {
    let path = folder.join(unique("plugin"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": path, "interactiveMode": "Never"
    });
    json!({ "exec": exec })
}

#[test]
fn credentials_of_every_kind() {
    let Some(cluster) = Cluster::shared() else { return };
    let folder = Folder::new("credentials");
    let canary = unique("canary");
    let with_user = |user: Value| {
        Plugin::new(&kubeconfig(cluster, folder.path(), |config| config["users"][0]["user"] = user))
    };
    let text = fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
    let admin: Value = serde_saphyr::from_str(&text).expect("YAML");
    let token = admin["users"][0]["user"]["token"].as_str().expect("a token").to_owned();
    let answer = |token: &str| {
        let status = json!({ "token": token });
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status
        });
        format!("echo '{credential}'")
    };

    let ran = with_user(credential_plugin(folder.path(), &answer(&token))).run(&["list", "-vv"]);
    ran.answer();
    assert!(!ran.stderr.contains(&token), "a token was told");
    for (user, told) in [
        (json!({ "token": canary }), "the credentials of the kubeconfig are not valid"),
        (
            credential_plugin(folder.path(), &answer(&canary)),
            "the credentials of the kubeconfig are not valid",
        ),
        (
            credential_plugin(folder.path(), &format!("{}; echo {canary} >&2; exit 3", answer(&canary))),
            "its credential plugin failed (exit status: 3)",
        ),
        (
            credential_plugin(folder.path(), &format!("echo {canary}")),
            "answered something else than credentials",
        ),
        (
            json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere",
                "interactiveMode": "Never" } }),
            "its credential plugin cannot be started: no such file or directory",
        ),
    ] {
        let ran = with_user(user).run(&["list", "-vv"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{told}: {ran:?}");
        assert!(ran.stderr.contains("error: access denied: to log in on the API server"), "{told}: {ran:?}");
        assert!(ran.stderr.contains(told), "{told}: {ran:?}");
        assert!(!ran.stderr.contains(&canary), "{told}: a secret was told: {ran:?}");
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used() {
    let Some(cluster) = Cluster::shared() else { return };
    let folder = Folder::new("kubeconfigs");
    let plugin = Plugin::of(cluster);
    plugin.run(&["list", "--context", "elsewhere"]).fails(
        2,
        "error: the kubeconfig has no context 'elsewhere'\nhint: it has: testbed; choose with --context NAME",
    );
    let canary = unique("canary");
    let broken = folder.path().join("broken");
    fs::write(&broken, format!("users:\n- user: {{token: {canary}\n  ]: x\n")).expect("written");
    let ran = plugin.run(&["list", "-vv", "--kubeconfig", broken.to_str().expect("UTF-8")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("error: no usable kubeconfig: it is not a kubeconfig"), "{ran:?}");
    assert!(!ran.stderr.contains(&canary), "{ran:?}");
    let missing = plugin.run(&["list", "--kubeconfig", "/nowhere"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("cannot read '/nowhere': no such file or directory"), "{missing:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer() {
    let Some(cluster) = Cluster::shared() else { return };
    let folder = Folder::new("servers");
    let server = format!("https://127.0.0.1:{}", free_ports(1)[0]);
    let nobody = kubeconfig(cluster, folder.path(), |config| {
        config["clusters"][0]["cluster"]["server"] = server.as_str().into();
    });
    let ran = Plugin::new(&nobody).run(&["list"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
    assert!(ran.stderr.contains(&server) && ran.stderr.contains("kubectl cluster-info"), "{ran:?}");

    let gate = cluster.gate(1);
    let plugin = Plugin::new(&cluster.kubeconfig_through(&gate));
    for action in [
        Action::Blackhole,
        Action::Status(Refusal::Throttling),
        Action::Status(Refusal::Unavailable),
        Action::Status(Refusal::Internal),
    ] {
        let is_tried_again = !matches!(action, Action::Status(Refusal::Internal));
        let told =
            if is_tried_again { "or asked for less load, for 1s; wait longer with" } else { "cluster-info" };
        gate.set_rules(vec![Rule::new(Match::method("GET"), action.clone())]);
        let ran = plugin.run(&["list", "--request-timeout", "1s"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{action:?}: {ran:?}");
        assert!(ran.stderr.contains(told), "{action:?}: {ran:?}");
    }
}

/// kubectl becomes the plugin, so a signal for it is one for us.
#[tokio::test]
async fn an_interrupt_ends_it() {
    let Some(cluster) = Cluster::shared() else { return };
    let gate = cluster.gate(1);
    let plugin = Plugin::new(&cluster.kubeconfig_through(&gate));
    gate.set_rules(vec![Rule::new(Match::method("GET"), Action::Hold)]);
    let asking = plugin.command(&["list"]).stderr(Stdio::piped()).spawn().expect("kubectl starts");
    eventually("it asks", PATIENCE, async || gate.held() > 0).await;
    let pid = i32::try_from(asking.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it runs");
    let output = asking.wait_with_output().expect("it ends");
    gate.release();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(130), "error: interrupted\n"));
}

/// Before Kubernetes 1.31 the API server does not know fields of ours, and says that the request is bad.
#[tokio::test]
async fn a_server_that_cannot_select_by_package() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    let gate = bench.cluster.gate(1);
    let plugin = Plugin::new(&bench.cluster.kubeconfig_through(&gate));
    let words = ["tags", bench.package.as_str(), "-n", &bench.namespace];
    assert_eq!(plugin.run(&words).answer(), "live\t1\n");
    assert!(gate.about("fieldSelector=spec.package") >= 2, "both kinds are asked for what is needed only");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "BadRequest", "code": 400,
        "message": "field label not supported: spec.package"
    });
    let selecting = Match { query: Some("**fieldSelector**".to_owned()), ..Match::default() };
    gate.set_rules(vec![Rule::new(selecting, Action::Answer(400, status.to_string()))]);
    assert_eq!(plugin.run(&words).answer(), "live\t1\n");
}
