//! `sacker init-container`: what is printed is YAML that a pod at the level `restricted` may have. Whether it fetches is
//! tested with real pods (`pods.rs`).

use serde_json::Value;

use super::home::{Home, PACKAGE};

fn home() -> Home {
    Home::with_two_versions().with("SACKER_STORE", "s3://my-blobs?endpoint=http://minio:9000&path_style=true")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn a_spec_asks_the_ledger_in_the_pod() {
    let home = home().with("SACKER_LEDGER", "dynamo://us-east-1/sacker");
    // Nothing is asked: there is no such server.
    let ran = home.run(&["init-container", "frontend-server@live"]);
    let pod = yaml(ran.answer());
    assert_eq!(ran.stderr, "");
    let container = &pod["initContainers"][0];
    assert_eq!(container["args"], serde_json::json!(["frontend-server@live", "--to", "/artifacts/"]));
    assert_eq!(container["env"][0]["value"], "dynamo://us-east-1/sacker");
    let store = container["env"][1]["value"].as_str().expect("a URI");
    assert!(store.starts_with("s3://my-blobs?endpoint=http"), "{store}");
    assert_eq!(container["image"], concat!("sacker-init:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/artifacts");
    assert_eq!(pod["volumes"][0]["name"], container["volumeMounts"][0]["name"]);
    let security = &container["securityContext"];
    assert_eq!(
        (&security["runAsNonRoot"], &security["readOnlyRootFilesystem"]),
        (&true.into(), &true.into())
    );
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
}

#[test]
fn a_pin_needs_the_store_only() {
    let home = home();
    let ledger = format!("file://{}", home.data().join("ledger").display());
    let home = home.with("SACKER_LEDGER", &ledger);
    let ran = home.run(&[
        "init-container",
        "frontend-server@2",
        "--pin",
        "--image",
        "registry.example/sacker-init:7",
    ]);
    let pod = yaml(ran.answer());
    let container = &pod["initContainers"][0];
    let pinned = home.run(&["resolve", "frontend-server@2"]).answer().trim_end().to_owned();
    assert_eq!(container["args"], serde_json::json!([pinned, "--to", "/artifacts/app.jar"]));
    assert_eq!(container["env"].as_array().map(Vec::len), Some(1));
    assert_eq!(container["image"], "registry.example/sacker-init:7");
}

#[test]
fn what_no_pod_could_use_is_said() {
    let home = Home::with_two_versions();
    let ran = home.run(&["init-container", PACKAGE]);
    assert!(ran.answer().contains("frontend-server@latest"), "{ran:?}");
    assert!(
        ran.stderr.contains("warning: a file:// ledger or store is a directory of this machine"),
        "{ran:?}"
    );
    for to in ["app.jar", "/app.jar"] {
        let ran = home.run(&["init-container", PACKAGE, "--to", to]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(
            ran.stderr
                .contains("hint: such as: sacker init-container frontend-server --to /artifacts/app.jar"),
            "{ran:?}"
        );
    }
}
