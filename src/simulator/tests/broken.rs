//! What a client sees of each fault of an answer, and what the ledger says of it.

use super::*;

#[tokio::test]
async fn error_heads_have_the_status_asked_for_and_leave_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Throttle { retry_after: Some(7) }).await;
    let throttled = bench.ask("u", &queue).await;
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.headers()["retry-after"], "7");
    let heads = [
        (Fault::Throttle { retry_after: None }, 429),
        (Fault::Unauthorized, 401),
        (Fault::Forbidden, 403),
        (Fault::ServerError { status: 503 }, 503),
    ];
    for (fault, status) in heads {
        bench.simulator.inflict(Order::next(1, fault).of("u")).unwrap();
        let answer = bench.ask("u", &queue).await;
        assert_eq!(answer.status(), status);
        assert!(answer.headers().get("retry-after").is_none());
        assert!(answer.json::<Value>().await.unwrap()["error_description"].is_string());
    }
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 1);
}

#[tokio::test]
async fn a_revoked_token_stays_refused_after_the_fault_is_used_up() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::RevokeToken).await;
    for _ in 0..2 {
        assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(bench.simulator.stats().waiting, 1);
}

#[tokio::test]
async fn a_killed_queue_answers_the_dead_status_and_its_events_are_in_the_ledger() {
    let bench = Bench::with(Options { dead_status: 410, ..Options::default() }).await;
    let queue = bench.queue_with(2, Fault::KillQueue).await;
    for _ in 0..2 {
        assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::GONE);
    }
    let ledger = bench.simulator.ledger(None);
    assert_eq!(ledger.deaths[0].cause, DeathCause::Killed);
    assert_eq!(ledger.deaths[0].undelivered.len(), 2);
    assert_eq!(bench.fates(), [(Fate::DiedWithQueue, None); 2]);
}

#[tokio::test]
async fn a_body_that_is_cut_short_loses_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(2, Fault::Cut).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let promised = answer.content_length().unwrap();
    let mut answer = answer;
    let mut got = 0;
    let ended = loop {
        match answer.chunk().await {
            Ok(Some(piece)) => got += piece.len() as u64,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ended.is_err());
    assert!(got > 0 && got < promised, "{got} of {promised}");
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Cut)); 2]);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_body_that_hangs_ends_with_the_client_or_with_the_simulator() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Hang).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Hang))]);
    let reading = tokio::spawn(answer.bytes());
    bench.simulator.stop().await;
    assert!(reading.await.unwrap().is_err());
}

#[tokio::test]
async fn a_slow_body_arrives_whole_for_a_client_that_waits() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(3, Fault::Slow { over_ms: 40 }).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(events(answer).await.len(), 3);
    assert_eq!(bench.fates(), [(Fate::HandedOut, Some(FaultName::Slow)); 3]);
}

#[tokio::test]
async fn a_slow_body_is_lost_when_the_client_leaves() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Slow { over_ms: 2_000 }).await;
    let mut answer = bench.ask("u", &queue).await;
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(bench.fates(), [(Fate::HandedOut, Some(FaultName::Slow))]);
    drop(answer);
    let noticed = async {
        while bench.simulator.stats().lost_on_the_wire == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Slow))]);
    assert_eq!(bench.simulator.stats().handed_out, 0);
}

#[tokio::test]
async fn an_oversized_body_is_as_large_as_ordered_and_holds_no_event() {
    let bench = Bench::start().await;
    for declared in [true, false] {
        let queue = bench.queue_with(1, Fault::Oversized { bytes: 200_001, declared }).await;
        let answer = bench.ask("u", &queue).await;
        assert_eq!(answer.content_length(), declared.then_some(200_001));
        let body = answer.bytes().await.unwrap();
        assert_eq!(body.len(), 200_001);
        assert!(serde_json::from_slice::<Vec<String>>(&body).is_ok());
        bench.simulator.kill_queues_of("u");
    }
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Oversized)); 2]);
}

#[tokio::test]
async fn invalid_json_and_html_come_with_200_and_lose_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::InvalidJson).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("[{") && serde_json::from_str::<Value>(&text).is_err());
    bench.simulator.push_events("u", None, 1).unwrap();
    bench.simulator.inflict(Order::next(1, Fault::Html)).unwrap();
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(
        bench.fates(),
        [
            (Fate::LostOnTheWire, Some(FaultName::InvalidJson)),
            (Fate::LostOnTheWire, Some(FaultName::Html)),
        ]
    );
}

#[tokio::test]
async fn an_empty_list_keeps_what_waits() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::EmptyList).await;
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 0);
    assert_eq!(bench.simulator.stats().answers[&Outcome::EmptyList], 1);
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 1);
}

#[tokio::test]
async fn altered_events_are_in_the_ledger_as_they_were_handed_out() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(3, Fault::Reorder).await;
    let ids = |got: &[Value]| -> Vec<String> {
        got.iter().map(|event| event["id"].as_str().unwrap_or("none").to_owned()).collect()
    };
    assert_eq!(ids(&events(bench.ask("u", &queue).await).await), ["3", "2", "1"]);
    let ledger = bench.simulator.ledger(None);
    let order: Vec<_> =
        ledger.taken_from(&queue).iter().map(|event| event.event_id.clone().unwrap()).collect();
    assert_eq!(order, ["3", "2", "1"].map(Arc::from));

    bench.simulator.push_events("u", None, 1).unwrap();
    bench.simulator.inflict(Order::next(1, Fault::UnknownType).with_events()).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    let entry = bench.simulator.ledger(None).events[3].clone();
    assert_eq!(got[0]["event_type"].as_str(), entry.event_type.as_deref());
    assert_ne!(got[0]["event_type"], "LIST_ACCOUNTS_SUCCESS");

    bench.simulator.push_events("u", None, 2).unwrap();
    let fault = Fault::MissingField { field: "id".to_owned() };
    bench.simulator.inflict(Order::next(1, fault)).unwrap();
    assert_eq!(ids(&events(bench.ask("u", &queue).await).await), ["none", "6"]);
    let entries = bench.simulator.ledger(None).events;
    assert_eq!(entries[4].without.as_deref(), Some("id"));
    assert_eq!(entries[5].without, None);
}
