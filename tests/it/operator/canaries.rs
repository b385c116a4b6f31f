//! F7 for the operator: no secret of its environment comes out, whatever works or fails: not in its log at the level of
//! debugging, not in an Event, a status or another object, not in its metrics.

use serde_json::Value;

use super::bench::{Bench, Conditions, object_yaml};
use super::process::Operator;
use crate::support::cluster::{Cluster, LEDGER, PATIENCE};
use crate::support::testbed::{self, free_ports};
use crate::support::unique;

/// Whatever of these the cluster has is looked through.
const KINDS: &str = "sackerledgers,sackerpackages,sackertags,events,configmaps,leases,namespaces,secrets";

#[tokio::test]
async fn no_secret_of_its_environment_comes_out() {
    let (Some(cluster), Some(dynamodb), Some(minio)) =
        (Cluster::start(), testbed::dynamodb(), testbed::minio())
    else {
        return;
    };
    cluster.install_crds();
    let names = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SACKER_ZOOKEEPER_PASSWORD", "SOMETHING_ELSE"];
    let canaries = names.map(|name| (name, unique("canary")));
    let mut environment: Vec<(&str, &str)> =
        canaries.iter().map(|(name, canary)| (*name, canary.as_str())).collect();
    environment.extend([("SACKER_ZOOKEEPER_USER", "operator"), ("SACKER_LOG", "debug")]);
    let operator = Operator::start_in(&cluster, &[], &environment);
    operator.until_ready();

    // A ledger that works: DynamoDB Local does not look at signatures.
    let uri = dynamodb.uri(&unique("ledger"));
    let bench = Bench::with(&cluster, Some(&operator), uri, &dynamodb.connect(), None).await;
    bench.until_ledger("True").await;
    bench.versions(2).await;
    bench.apply_package("mirror", "publish: {configMap: pins}");
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_tag("live", "version: 2");
    bench.until_applied("live", 2).await;

    // One that finds the signature wrong, and one that is not there.
    let nobody = free_ports(1)[0];
    for uri in [minio.uri(&unique("ledger")), format!("zk://127.0.0.1:{nobody}/sacker")] {
        let name = unique("failing");
        cluster.apply(&bench.ledger_yaml().replace(&bench.ledger_name, &name).replace(&bench.uri, &uri));
        let spec = format!("ledger: {name}, package: {}, tag: live, version: 1", bench.package);
        cluster.apply(&object_yaml("SackerTag", &bench.namespace, &name, &spec));
        let has_failed = |object: &Value| {
            let conditions = Conditions::of(object);
            !conditions.reason("Ready").is_empty() && !conditions.is("Ready", "True")
        };
        bench.api.until((LEDGER, "", &name), "it cannot be used", PATIENCE, has_failed).await;
    }

    let objects = cluster.kubectl(&["get", KINDS, "-A", "-o", "yaml"]).success();
    let (_, metrics) = operator.get("/metrics").expect("metrics are served");
    let places = [("its log", operator.log()), ("an object", objects), ("its metrics", metrics)];
    for (place, sign) in [(0, "DEBUG"), (1, "kind: Event"), (2, "sacker_")] {
        let (name, text) = &places[place];
        assert!(text.contains(sign), "{name} is what it should be");
    }
    for (name, canary) in &canaries {
        for (place, text) in &places {
            let found = text.lines().find(|line| line.contains(canary.as_str()));
            assert_eq!(found, None, "{name} stands in {place}");
        }
    }
}
