//! The control API, and what is refused at the start.

use super::*;

#[tokio::test]
async fn the_control_api_does_what_the_methods_do() {
    let bench = Bench::start().await;
    let url = bench.simulator.control_url();
    let health = bench.client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let put = bench
        .client
        .put(format!("{url}/users/u"))
        .json(&json!({"connections": [{"id": "c1", "channels": ["EMBEDDED"]}, {"id": "c2"}]}))
        .send()
        .await
        .unwrap();
    assert_eq!(put.json::<Value>().await.unwrap()["connections"], json!(["c1", "c2"]));
    let issued = bench.control("tokens", json!({"user": "u", "lifetime_ms": 5000})).await;
    assert_eq!(issued["expires_in"], 5);
    let opened = bench.control("queues", json!({"user": "u"})).await;
    let queue = opened["queue"].as_str().unwrap();
    let sync = json!({"user": "u", "sync": {"connection": "c1", "ending": "CHALLENGE_REQUIRED"}});
    assert_eq!(bench.control("sync", sync).await["events"], 4);
    let pushed = bench.control("push", json!({"user": "u", "element": {"id": "7"}})).await;
    assert_eq!(pushed["queues"], 1);
    bench.control("push", json!({"user": "u", "connection": "c2", "events": 5})).await;
    bench
        .control(
            "faults",
            json!({"user": "u", "times": 1, "on": ["ask"], "fault": {"name": "forbidden"}}),
        )
        .await;
    assert_eq!(bench.ask("u", queue).await.status(), StatusCode::FORBIDDEN);
    bench.control("faults", json!({"fault": {"name": "forbidden"}})).await;
    let healed = bench.client.delete(format!("{url}/faults")).send().await.unwrap();
    assert_eq!(healed.status(), StatusCode::NO_CONTENT);
    assert_eq!(events(bench.ask("u", queue).await).await.len(), 10);
    let token = issued["access_token"].as_str().unwrap();
    assert_eq!(bench.control("revoke", json!({"token": token})).await["revoked"], 1);
    assert_eq!(bench.control("kill", json!({"user": "u"})).await["killed"], 1);

    let read = |path: &str| bench.client.get(format!("{url}/{path}")).send();
    let stats: Stats = read("stats").await.unwrap().json().await.unwrap();
    assert_eq!((stats.handed_out, stats.deaths), (10, 1));
    assert_eq!(stats.faults[&FaultName::Forbidden], 1);
    let ledger: Ledger = read("ledger?user=u").await.unwrap().json().await.unwrap();
    assert_eq!(ledger.events.len(), 10);
    assert_eq!(&*ledger.deaths[0].queue, queue);
    let live: Value = read("queues?user=u").await.unwrap().json().await.unwrap();
    assert_eq!(live["queues"], json!([]));
    let removed = bench.client.delete(format!("{url}/users/u")).send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let wrong = bench
        .client
        .post(format!("{url}/faults"))
        .json(&json!({"fault": {"name": "server_error", "status": 200}}));
    let wrong = wrong.send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_orders_beyond_one_request_are_given_over_the_control_api_too() {
    let bench = Bench::start().await;
    let url = bench.simulator.control_url();
    let users: Vec<Value> = (0..10_000)
        .map(|user| json!({"user": format!("user-{user}"), "password": format!("secret-{user}")}))
        .collect();
    assert_eq!(bench.control("users", json!({"users": users})).await["users"], 10_000);
    let grant = json!({
        "grant_type": "password", "client_id": "simulated-client",
        "client_secret": "simulated-client-secret", "username": "user-7", "password": "secret-7",
    });
    let token = bench.client.post(format!("{}/token", bench.simulator.auth_url())).json(&grant);
    assert_eq!(token.send().await.unwrap().status(), StatusCode::OK);
    let changed = bench.client.put(format!("{url}/users/user-7")).json(&json!({"password": "x"}));
    assert_eq!(changed.send().await.unwrap().status(), StatusCode::OK);
    let token = bench.client.post(format!("{}/token", bench.simulator.auth_url())).json(&grant);
    assert_eq!(token.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);

    for user in ["user-1", "user-2", "user-3"] {
        bench.queue(user).await;
    }
    let some = json!({"users": ["user-1"], "share": 1.0});
    assert_eq!(bench.control("expire", some).await["expired"], 1);
    assert_eq!(bench.control("expire", json!({})).await["expired"], 2);

    let traffic = json!({"events_per_second": 100.0, "asking": 0.1, "over_ms": 10});
    let put = bench.client.put(format!("{url}/traffic")).json(&traffic).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    assert_eq!(bench.simulator.stats().traffic, 1);
    let ended = bench.client.delete(format!("{url}/traffic")).send().await.unwrap();
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    let wrong = json!({"events_per_second": 0.0});
    let wrong = bench.client.put(format!("{url}/traffic")).json(&wrong).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);

    bench.control("unreachable", json!({"for_ms": 3_600_000})).await;
    assert_eq!(bench.simulator.ledger(None).outages.len(), 1);
    let again = bench.client.delete(format!("{url}/unreachable")).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
    let outage = bench.simulator.ledger(None).outages[0];
    assert!(outage.to - outage.from < 3_600_000);
    let page: Ledger = bench
        .client
        .get(format!("{url}/ledger?from=9999&limit=100"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((page.users.len(), page.next), (1, None));
}

#[tokio::test]
async fn what_has_no_meaning_is_refused_at_the_start() {
    let anywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Simulator::start(anywhere).await, Err(Error::NotLoopback(_))));
    let anywhere = Options { control_listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Simulator::start(anywhere).await, Err(Error::NotLoopback(_))));
    let listen = "0.0.0.0:0".parse().unwrap();
    let allowed = Options { listen, any_address: true, ..Options::default() };
    assert!(Simulator::start(allowed).await.is_ok());
    let status = Options { dead_status: 405, ..Options::default() };
    assert!(matches!(Simulator::start(status).await, Err(Error::BadOption(_))));
    let shown = format!("{:?}", Options::default());
    assert!(!shown.contains("client-secret"));
}
