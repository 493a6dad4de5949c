//! What the bridge tells of itself: log lines whose filter is changed while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use serde_json::{Value, json};
use support::{Bridge, PATIENCE, Stage};
use tokio::time::{Duration, Instant, sleep};

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: it did not come so far");
        sleep(Duration::from_millis(30)).await;
    }
}

/// The log lines of JSON so far.
fn lines(bridge: &Bridge) -> Vec<Value> {
    bridge.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(bridge: &Bridge, level: &str) -> usize {
    lines(bridge).iter().filter(|line| line["level"] == level).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_where_wished_and_its_filter_changes_while_the_bridge_runs() {
    let mut stage = Stage::new("log-filter").await;
    stage.set("service.log", "\"info,librdkafka=off,hyper_util=off\"");
    stage.set("service.log_format", "\"json\"");
    let bridge = stage.bridge().await;
    let (status, shown) = bridge.get("/v1/log").await;
    assert_eq!((status, &shown["filter"]), (200, &json!("info,librdkafka=off,hyper_util=off")));
    assert!(messages(&bridge, "INFO") > 0, "{}", bridge.log());
    assert_eq!(messages(&bridge, "DEBUG"), 0, "{}", bridge.log());

    let change =
        async |filter: &str| bridge.call("PUT", "/v1/log", Some(json!({"filter": filter}))).await;
    let (status, refused) = change("inof").await;
    assert_eq!((status, &refused["pointer"]), (422, &json!("/filter")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("target=level"), "{refused}");

    let (status, changed) = change("debug").await;
    assert_eq!((status, changed), (200, json!({"filter": "debug"})));
    until("the change is told", async || bridge.log().contains("log filter changed")).await;
    let told = lines(&bridge).into_iter().find(|line| line["fields"]["filter"] == "debug").unwrap();
    assert_eq!(told["fields"]["filter_before"], "info,librdkafka=off,hyper_util=off");
    bridge.put("ann").await;
    until("debug lines come", async || messages(&bridge, "DEBUG") > 0).await;

    // told under the old filter, as the new one lets nothing through
    change("off").await;
    until("the end is told", async || {
        lines(&bridge).iter().any(|line| line["fields"]["filter"] == "off")
    })
    .await;
    let so_far = bridge.log().len();
    bridge.put("bob").await;
    assert_eq!(bridge.get("/v1/log").await.1["filter"], "off");
    assert_eq!(bridge.log().len(), so_far, "{}", &bridge.log()[so_far..]);

    // and under the new one, as the old one let nothing through
    change("info").await;
    until("the beginning is told", async || bridge.log().len() > so_far).await;
    let last = lines(&bridge).pop().unwrap();
    assert_eq!(last["fields"]["filter_before"], "off");
    assert!(bridge.stop().await.success());
}
