//! What the calls answer when all is well.

use super::*;

#[tokio::test]
async fn a_new_subscription_is_created_and_an_existing_one_is_ok() {
    let served = serve(Some(TOKEN)).await;
    let answer = served.put("/v1/subscriptions/u%2F%C3%A9").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["location"], "/v1/subscriptions/u%2F%C3%A9");
    let body: Value = answer.json().await.unwrap();
    let expected = json!({
        "user_id": "u/é", "subscription_id": "s-1", "queue_id": "q-1", "partition": 7,
    });
    assert_eq!(body, expected);

    served.fake.tell(|told| told.existed = true);
    let mut body = token_body();
    body["queue_id"] = json!("widget/1");
    let answer = served.call(Method::PUT, "/v1/subscriptions/u").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(served.fake.0.lock().unwrap().queues, [None, Some(QueueId::from("widget/1"))]);
}

#[tokio::test]
async fn a_subscription_is_shown_removed_and_hinted() {
    let served = serve(Some(TOKEN)).await;
    let shown = served.call(Method::GET, "/v1/subscriptions/u").send().await.unwrap();
    assert_eq!(shown.status(), StatusCode::OK);
    let expected = json!({
        "user_id": "u",
        "subscription_id": "s-1",
        "queue_id": "q-1",
        "generation": 3,
        "partition": 7,
        "owner": "bridge-0",
        "state": "blocked",
        "blocked_reason": "linxo answered 401",
        "last_answer": {"at": "2027-01-15T08:00:00.25Z", "outcome": "empty_list"},
        "headroom_seconds": 61,
        "next_due": "2027-01-15T08:05:00Z",
        "credential": {"type": "access_token"},
    });
    assert_eq!(shown.json::<Value>().await.unwrap(), expected);

    let removed = served.call(Method::DELETE, "/v1/subscriptions/u").send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let hinted = served.call(Method::POST, "/v1/subscriptions/u/hint").send().await.unwrap();
    assert_eq!(hinted.status(), StatusCode::ACCEPTED);

    served.fake.tell(|told| told.unserved = Some(Unserved::UnknownUser));
    for (method, path) in [
        (Method::GET, "/v1/subscriptions/u"),
        (Method::DELETE, "/v1/subscriptions/u"),
        (Method::POST, "/v1/subscriptions/u/hint"),
    ] {
        let (status, body) = problem(served.call(method, path)).await;
        assert_eq!((status, &body["type"]), (StatusCode::NOT_FOUND, &kind("unknown-user")));
    }
}

#[tokio::test]
async fn any_text_up_to_the_limit_is_a_user_id() {
    let served = serve(Some(TOKEN)).await;
    let longest = "x".repeat(1024);
    let ids = [
        "a/b",
        "a/hint",
        "hint",
        "/",
        "//x",
        "a b",
        "a+b",
        "%2F",
        "?x=1#y",
        "ünï/çode 日本",
        "..a",
        "a\u{0}b",
        &longest,
    ];
    for id in ids {
        let encoded = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let show = served.call(Method::GET, &format!("/v1/subscriptions/{encoded}"));
        let shown: Value = show.send().await.unwrap().json().await.unwrap();
        assert_eq!(shown["user_id"], id);
        let hint = served.call(Method::POST, &format!("/v1/subscriptions/{encoded}/hint"));
        assert_eq!(hint.send().await.unwrap().status(), StatusCode::ACCEPTED, "{id}");
    }
    let asked: Vec<String> = ids.iter().flat_map(|id| [id.to_string(), id.to_string()]).collect();
    assert_eq!(served.fake.users(), asked);

    for (id, said) in [("y".repeat(1025), "1024 bytes"), ("%FF".to_owned(), "UTF-8")] {
        let (status, body) =
            problem(served.call(Method::GET, &format!("/v1/subscriptions/{id}"))).await;
        assert_eq!((status, &body["type"]), (StatusCode::BAD_REQUEST, &kind("bad-request")));
        assert!(body["detail"].as_str().unwrap().contains(said));
    }
}

#[tokio::test]
async fn probes_and_metrics_tell_what_the_bridge_tells() {
    let served = serve(Some(TOKEN)).await;
    let metrics = served.bare(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    assert_eq!(metrics.text().await.unwrap(), "up 1\n");

    let reasons = vec!["kafka: no broker".to_owned(), "partition 3 is loading".to_owned()];
    served.fake.tell(|told| {
        told.liveness = Some(Liveness::Stalled("partition 3 has not asked for 90 s".to_owned()));
        told.readiness = Some(Readiness::NotReady(reasons.clone()));
    });
    let (status, body) = problem(served.bare(Method::GET, "/livez")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("not-alive")));
    let (status, body) = problem(served.bare(Method::GET, "/readyz")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("not-ready")));
    assert_eq!(body["reasons"], json!(reasons));
}

#[tokio::test]
async fn instances_are_shown_with_their_marks() {
    let served = serve(Some(TOKEN)).await;
    let call = served.call(Method::GET, "/v1/instances");
    let shown: Value = call.send().await.unwrap().json().await.unwrap();
    let expected = json!({"instances": [{
        "instance_id": "bridge-0",
        "journal_id": "j-1",
        "url": "http://127.0.0.1:1",
        "partitions": [0],
        "marked_at": "2027-01-15T08:00:00Z",
        "asked_until": null,
        "published_until": null,
        "is_alive": true,
        "is_self": true,
    }]});
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_stop_waits_for_a_stuck_call_no_longer_than_it_says() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let fake = Fake::default();
    fake.tell(|told| told.is_stuck = true);
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = Admin::bind(listen, None, fake.clone()).await.unwrap();
    let url = format!("http://{}/v1/subscriptions/u", admin.local_addr());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(admin.serve(async move { stopped.await.unwrap_or_default() }));
    let stuck = tokio::spawn(Client::builder().no_proxy().build().unwrap().get(url).send());
    while fake.users().is_empty() {
        tokio::task::yield_now().await;
    }

    tokio::time::pause();
    let start = tokio::time::Instant::now();
    drop(stop);
    serving.await.unwrap().unwrap();
    assert!(start.elapsed().abs_diff(STOP_WITHIN) < Duration::from_millis(10));
    stuck.abort();
}

#[tokio::test]
async fn the_log_filter_is_shown_and_changed_at_the_instance_that_is_called() {
    let served = serve(Some(TOKEN)).await;
    let put = |body: Value| served.call(Method::PUT, "/v1/log").json(&body);
    let filter = json!({"filter": "info,linxo_kafka_bridge::worker=debug"});
    let changed = put(filter.clone()).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.json::<Value>().await.unwrap(), filter);
    let shown = served.call(Method::GET, "/v1/log").send().await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap(), filter);

    for body in [
        json!({"filter": "inof"}),
        json!({"filter": 5}),
        json!({"filter": ""}),
        json!({"filter": "x".repeat(1025)}),
        json!({}),
    ] {
        let (status, answer) = problem(put(body.clone())).await;
        assert_eq!((status.as_u16(), &answer["type"]), (422, &kind("invalid-request")), "{body}");
        assert_eq!(answer["pointer"], "/filter");
    }
    let (status, answer) = problem(put(json!({"filter": "info", "level": "debug"}))).await;
    assert_eq!((status.as_u16(), &answer["pointer"]), (422, &json!("/level")));
    let shown = served.call(Method::GET, "/v1/log").send().await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap(), filter, "nothing was changed");
}
