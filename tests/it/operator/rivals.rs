//! Several SackerTags for one tag: one has it, the others say who.

use serde_json::{Value, json};

use super::bench::{Bench, Conditions, message};
use crate::support::cluster::{PATIENCE, TAG};
use crate::support::eventually;

/// How often both objects are looked at while nothing may change: what 20 polls would do.
const PASSES: usize = 20;

#[tokio::test]
async fn one_of_two_claimants_has_the_tag_and_the_other_says_so() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    let other = bench.cluster.namespace(&[("team", &bench.team)]).await;
    // At the same moment, with different targets.
    let yaml = bench.tag_yaml(&bench.namespace, "one", "live", "version: 1")
        + &bench.tag_yaml(&other, "two", "live", "version: 2");
    bench.cluster.apply(&yaml);
    let claims = [(TAG, bench.namespace.as_str(), "one"), (TAG, other.as_str(), "two")];
    // Both may wait for the other for as long as one does not know of the other's status: they are looked at together.
    let mut objects = Vec::new();
    let mut roles = (None, None);
    let settled = async || {
        objects.clear();
        for (kind, namespace, name) in claims {
            objects.push(bench.api.get(kind, namespace, name).await.unwrap_or_default());
        }
        let place = |holds: fn(&Conditions<'_>) -> bool| {
            objects.iter().position(|object| holds(&Conditions::of(object)))
        };
        roles = (place(|it| it.is("Ready", "True")), place(|it| it.reason("Stalled") == "Conflict"));
        roles.0.is_some() && roles.1.is_some()
    };
    eventually("one is Ready and the other in conflict", PATIENCE, settled).await;
    let (Some(winner), Some(loser)) = roles else { panic!("{objects:#?}") };
    assert_ne!(winner, loser);
    let object = &objects[loser];
    let (_, namespace, name) = claims[winner];
    let text = message(object, "Stalled");
    assert!(text.contains(&format!("{namespace}/{name}")), "it names the other: {text}");
    let target = [1, 2][winner];
    assert_eq!(bench.points_at("live").await, Some(target));
    let history = bench.history("live").await.len();
    assert!(history <= 2, "{history} writes");

    for _ in 0..PASSES {
        for (kind, namespace, name) in claims {
            bench.pass(kind, namespace, name).await;
        }
    }
    assert_eq!(bench.history("live").await.len(), history, "no ping-pong");
    let in_conflict = |object: &Value| Conditions::of(object).reason("Stalled") == "Conflict";
    bench.api.until(claims[loser], "still in conflict", PATIENCE, in_conflict).await;

    // The winner goes: the other has it then.
    let (kind, namespace, name) = claims[winner];
    bench.api.delete(kind, namespace, name).await;
    let target = [1, 2][loser];
    let applied =
        |object: &Value| Conditions::of(object).is("Ready", "True") && object["status"]["version"] == target;
    bench.api.until(claims[loser], "it has the tag now", PATIENCE, applied).await;
    assert_eq!(bench.points_at("live").await, Some(target));
    bench.cluster.kubectl(&["delete", "--wait=false", "namespace", &other]).success();
}

#[tokio::test]
async fn who_came_later_does_not_take_the_tag() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.cluster.apply(&bench.tag_yaml(&bench.namespace, "later", "live", "version: 2"));
    let object = bench.until_tag("later", "Stalled", "True", "Conflict").await;
    assert!(message(&object, "Stalled").contains(&format!("{}/live", bench.namespace)), "{object:#}");
    assert!(Conditions::of(&object).is("Ready", "False"));
    assert_eq!(bench.history("live").await.len(), 1);

    // Deleting the one that has nothing changes nothing, not even with Delete.
    bench.api.patch(TAG, &bench.namespace, "later", json!({ "spec": { "deletionPolicy": "Delete" } })).await;
    bench.api.delete(TAG, &bench.namespace, "later").await;
    bench.api.until_gone((TAG, &bench.namespace, "later"), PATIENCE).await;
    assert_eq!((bench.points_at("live").await, bench.history("live").await.len()), (Some(1), 1));
}

#[tokio::test]
async fn two_tags_of_one_package_are_no_rivals() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    let yaml = bench.tag_yaml(&bench.namespace, "live", "live", "version: 1")
        + &bench.tag_yaml(&bench.namespace, "canary", "canary", "version: 2");
    bench.cluster.apply(&yaml);
    bench.until_applied("live", 1).await;
    bench.until_applied("canary", 2).await;
}
