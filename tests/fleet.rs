//! Several instances share the users, and any of them takes any call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Bridge, PATIENCE, Stage, path_of};
use tokio::time::{Duration, Instant, sleep};

const USERS: usize = 24;
const CLASSIC: &str = "\"classic\"";
const CONSUMER: &str = "\"consumer\"";

fn users() -> Vec<String> {
    // ids that have to be escaped are forwarded unchanged
    (0..USERS).map(|number| format!("user/{number} é%2F")).collect()
}

/// Topics with so many control partitions.
async fn stage(name: &str, partitions: u32) -> Stage {
    let settings = [("topics.partitions", &*partitions.to_string())];
    let stage = Stage::bare(name, Default::default(), &settings).await;
    assert!(stage.run(&["topics", "create"]).await.status.success());
    stage
}

/// Instances of one group, each with a journal of its own.
async fn instances(stage: &mut Stage, count: usize, protocol: &str) -> Vec<Bridge> {
    stage.set("kafka.group_protocol", protocol);
    if protocol == CONSUMER {
        stage.unset("kafka.session_timeout");
    }
    let mut all = Vec::new();
    for number in 0..count {
        let journal = stage.folder.path().join(format!("journal-{number}"));
        stage.set("journal.directory", &format!("{:?}", journal.to_str().unwrap()));
        stage.set("kafka.instance_id", &format!("\"bridge-{number}\""));
        all.push(stage.start().await);
    }
    for instance in &all {
        instance.ready().await;
    }
    all
}

/// What each instance says that each owns, once all of them say the same and every partition is owned once.
async fn shared_out(all: &[Bridge], partitions: i64) -> Vec<(String, Vec<i64>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut views = BTreeSet::new();
        for instance in all {
            let (status, answer) = instance.get("/v1/instances").await;
            is_described(instance, "GET", "/v1/instances", status, &answer).await;
            views.insert(owned(&answer));
        }
        let first = views.first().unwrap().clone();
        let mut given: Vec<i64> = first.iter().flat_map(|(_, owned)| owned.clone()).collect();
        given.sort_unstable();
        if views.len() == 1 && given == (0..partitions).collect::<Vec<i64>>() {
            return first;
        }
        assert!(Instant::now() < deadline, "the instances do not agree: {views:#?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn owned(answer: &Value) -> Vec<(String, Vec<i64>)> {
    let all = answer["instances"].as_array().unwrap();
    let alive = all.iter().filter(|instance| instance["is_alive"] == true);
    let owns = |instance: &Value| {
        let partitions = instance["partitions"].as_array().unwrap();
        let numbers = partitions.iter().map(|number| number.as_i64().unwrap()).collect();
        (instance["instance_id"].as_str().unwrap().to_owned(), numbers)
    };
    alive.map(owns).collect()
}

/// Whether an answer is one that `/openapi.json` of the running service describes.
async fn is_described(instance: &Bridge, method: &str, path: &str, status: u16, answer: &Value) {
    let (_, document) = instance.get("/openapi.json").await;
    let call = &document["paths"][path][method.to_lowercase()];
    let mut response = &call["responses"][status.to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    assert!(response["description"].is_string(), "{method} {path} is never answered {status}");
    let Some((_, content)) = response["content"].as_object().and_then(|kinds| kinds.iter().next())
    else {
        assert_eq!(answer, "", "{method} {path} is answered {status} without a body");
        return;
    };
    let schema = json!({"allOf": [content["schema"]], "components": document["components"]});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(answer).map(|fault| format!("{fault}")).collect();
    assert!(faults.is_empty(), "{method} {path} {status}: {faults:?} in {answer}");
}

const SUBSCRIPTION: &str = "/v1/subscriptions/{user_id}";

/// A call that may come while partitions move.
async fn call(instance: &Bridge, method: &str, user: &str, body: Option<Value>) -> (u16, Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = instance.call(method, &path_of(user), body.clone()).await;
        is_described(instance, method, SUBSCRIPTION, status, &answer).await;
        if status != 503 || Instant::now() > deadline {
            return (status, answer);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn any_instance_takes_any_call(protocol: &str) {
    // more than are read at once
    let mut stage = stage("any-instance", 14).await;
    let all = instances(&mut stage, 3, protocol).await;
    let shares = shared_out(&all, 14).await;
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.iter().all(|(_, owned)| !owned.is_empty()), "{shares:?}");

    let body = json!({"credential": {"type": "client"}});
    for (number, user) in users().iter().enumerate() {
        let (status, made) = call(&all[number % 3], "PUT", user, Some(body.clone())).await;
        assert_eq!(status, 201, "{user}: {made}");
        let (status, shown) = call(&all[(number + 1) % 3], "GET", user, None).await;
        assert_eq!((status, &shown["queue_id"]), (200, &made["queue_id"]), "{user}: {shown}");
        let owner = shown["owner"].as_str().unwrap();
        let share = shares.iter().find(|(instance, _)| instance == owner).unwrap();
        assert!(share.1.contains(&made["partition"].as_i64().unwrap()), "{shown} {shares:?}");
        let (status, again) = call(&all[(number + 2) % 3], "PUT", user, Some(body.clone())).await;
        assert_eq!((status, &again["queue_id"]), (200, &made["queue_id"]), "{user}: {again}");
    }
    for instance in &all {
        let (status, listed) = instance.get("/v1/subscriptions?limit=1000").await;
        assert_eq!(status, 200, "{listed}");
        is_described(instance, "GET", "/v1/subscriptions", status, &listed).await;
        let listed: Vec<String> = listed["subscriptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|subscription| subscription["user_id"].as_str().unwrap().to_owned())
            .collect();
        let mut expected = users();
        expected.sort();
        assert_eq!(listed, expected);
    }
    for (number, user) in users().iter().enumerate() {
        let path = format!("{}/hint", path_of(user));
        let (status, answer) = all[number % 3].call("POST", &path, None).await;
        assert_eq!(status, 202);
        is_described(&all[0], "POST", &format!("{SUBSCRIPTION}/hint"), status, &answer).await;
        assert_eq!(call(&all[number % 3], "DELETE", user, None).await.0, 204);
        assert_eq!(call(&all[(number + 1) % 3], "GET", user, None).await.0, 404);
    }
    for instance in all {
        assert!(instance.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_instance_takes_any_call_by_the_classic_protocol() {
    any_instance_takes_any_call(CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_instance_takes_any_call_by_the_consumer_protocol() {
    any_instance_takes_any_call(CONSUMER).await;
}

/// More instances than partitions: one owns nothing, knows it, and takes calls all the same.
async fn one_too_many(protocol: &str) {
    let mut stage = stage("one-too-many", 1).await;
    let all = instances(&mut stage, 2, protocol).await;
    shared_out(&all, 1).await;
    let (status, made) =
        call(&all[0], "PUT", "alice", Some(json!({"credential": {"type": "client"}}))).await;
    assert_eq!(status, 201, "{made}");
    for instance in &all {
        assert_eq!(call(instance, "GET", "alice", None).await.0, 200);
        for path in ["/readyz", "/livez"] {
            let (status, answer) = instance.get(path).await;
            assert_eq!(status, 200);
            is_described(instance, "GET", path, status, &answer).await;
        }
    }
    let before = all[1].get("/v1/log").await.1;
    for (body, expected) in [(json!({"filter": "warn"}), 200), (json!({"filter": "wran"}), 422)] {
        let (status, answer) = all[0].call("PUT", "/v1/log", Some(body)).await;
        assert_eq!(status, expected, "{answer}");
        is_described(&all[0], "PUT", "/v1/log", status, &answer).await;
    }
    for (instance, filter) in all.iter().zip([&json!({"filter": "warn"}), &before]) {
        let (status, answer) = instance.get("/v1/log").await;
        assert_eq!(&answer, filter, "a filter is of one instance");
        is_described(instance, "GET", "/v1/log", status, &answer).await;
    }
    for instance in all {
        assert!(instance.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_a_partition_is_ready_by_the_classic_protocol() {
    one_too_many(CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_a_partition_is_ready_by_the_consumer_protocol() {
    one_too_many(CONSUMER).await;
}
