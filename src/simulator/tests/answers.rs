//! What a client sees of an honest source.

use super::*;

#[tokio::test]
async fn a_subscription_is_drained_and_the_ledger_agrees() {
    let bench = Bench::start().await;
    let queue = bench.queue("u").await;
    let empty = bench.ask("u", &queue).await;
    assert_eq!(empty.status(), StatusCode::NO_CONTENT);
    let sync = Sync { extras: true, ..Sync::ending(Status::AuthFailed) };
    let planned = bench.simulator.start_sync("u", &sync).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    assert_eq!(got.len(), planned);
    let connections = bench.list("u").await;
    assert_eq!(connections[0]["status"], "FAILED");
    assert_eq!(got.last().unwrap()["resource"], connections[0]);

    let ledger = bench.simulator.ledger(None);
    let taken = ledger.taken_from(&queue);
    assert_eq!(taken.len(), got.len());
    for (entry, event) in taken.iter().zip(&got) {
        assert_eq!(entry.event_id.as_deref(), event["id"].as_str());
        assert_eq!(entry.event_type.as_deref(), event["event_type"].as_str());
        assert_eq!(entry.connection.as_deref(), event["resource"]["id"].as_str());
        let shown = event["resource"]["channels"][0]["status"].as_str();
        assert_eq!(entry.redirect.map(Status::as_str), shown);
        assert_eq!(entry.fate, Fate::HandedOut);
    }
    let stats = bench.simulator.stats();
    assert_eq!(stats.polls, 2);
    assert_eq!(stats.answers[&Outcome::Empty], 1);
    assert_eq!(stats.answers[&Outcome::Events], 1);
    assert_eq!((stats.handed_out, stats.waiting), (planned as u64, 0));
    assert_eq!((stats.subscribes, stats.live_queues), (1, 1));
    assert_eq!(ledger.users[0].subscribes, 1);
    bench.simulator.stop().await;
}

#[tokio::test]
async fn a_user_id_in_the_header_is_percent_encoded_and_in_the_query_too() {
    let bench = Bench::start().await;
    bench.queue("Zo%C3%AB%2F1").await;
    assert_eq!(bench.simulator.live_queues("Zoë/1").len(), 1);
    bench.list("Zo%C3%AB%2F1").await;
    assert_eq!(bench.simulator.stats().users, 1);
}

#[tokio::test]
async fn v3_wraps_lists_and_writes_dates_as_text() {
    let bench = Bench::with(Options { version: Version::V3, ..Options::default() }).await;
    assert!(bench.simulator.url().ends_with("/v3"));
    let queue = bench.queue("u").await;
    let list = bench.list("u").await;
    assert!(list["connections"][0]["creation_date"].as_str().unwrap().ends_with('Z'));
    bench.simulator.push_events("u", None, 1).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    assert!(got[0]["creation_date"].is_string());
}

#[tokio::test]
async fn the_location_takes_every_form() {
    let bench = Bench::start().await;
    let url = bench.simulator.url();
    let forms = [
        (LocationForm::Relative, "/queues/".to_owned()),
        (LocationForm::Prefixed, "/v2.1/queues/".to_owned()),
        (LocationForm::Absolute, format!("{url}/queues/")),
    ];
    for (form, start) in forms {
        bench.simulator.inflict(Order::next(1, Fault::Location { form }).of("u")).unwrap();
        let answer = bench.subscribe("u").await;
        let location = answer.headers()["location"].to_str().unwrap();
        let queue = location.strip_prefix(&start).unwrap();
        assert!(bench.simulator.live_queues("u").contains(&queue.to_owned()));
    }
    let missing = Fault::Location { form: LocationForm::Missing };
    bench.simulator.inflict(Order::next(1, missing)).unwrap();
    let answer = bench.subscribe("u").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert!(answer.headers().get("location").is_none());
    assert_eq!(bench.simulator.live_queues("u").len(), 4);
}

#[tokio::test]
async fn a_wrong_secret_and_a_failing_token_endpoint_give_no_token() {
    let bench = Bench::start().await;
    let wrong = token(&bench.client, &bench.simulator, "guess").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let wrong: Value = wrong.json().await.unwrap();
    assert_eq!(wrong["error"], "invalid_client");
    assert!(wrong["error_description"].is_string());
    for (fault, status) in [(Fault::Unauthorized, 401), (Fault::ServerError { status: 502 }, 502)] {
        bench.simulator.inflict(Order::next(1, fault).on(RequestKind::Token)).unwrap();
        let answer = token(&bench.client, &bench.simulator, "simulated-client-secret").await;
        assert_eq!(answer.status(), status);
    }
    let form = bench
        .client
        .post(format!("{}/token", bench.simulator.auth_url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&client_id=simulated-client&client_secret=simulated-client-secret")
        .send()
        .await
        .unwrap();
    assert_eq!(form.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_injected_element_is_handed_out_as_it_is() {
    let bench = Bench::start().await;
    let queue = bench.queue("u").await;
    let element = r#"{"id":"x-1", "event_type":"ODD","resource":{"id":"c9"},"n":1e3}"#;
    assert_eq!(bench.simulator.push("u", element).unwrap(), 1);
    assert_eq!(bench.simulator.push("u", "42").unwrap(), 1);
    let body = bench.ask("u", &queue).await.text().await.unwrap();
    assert_eq!(body, format!("[{element},42]"));
    let ledger = bench.simulator.ledger(None);
    assert_eq!(ledger.events[0].event_id.as_deref(), Some("x-1"));
    assert_eq!(ledger.events[0].connection.as_deref(), Some("c9"));
    assert_eq!(ledger.events[1].event_id, None);
    assert_eq!(ledger.events[1].event_type, None);
}
