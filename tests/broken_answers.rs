//! Answers that do not arrive as they should, or hold what is no event: what is lost lies inside a
//! gap of its user and of nobody else, what cannot be understood is a dead letter, and all the rest
//! is published.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use linxo_kafka_bridge::simulator::{
    ConnectionPlan, FAKE_SECRET, Fate, Fault, FaultName, Options, Order, RequestKind, Sync,
};
use serde_json::Value;
use support::account::{assert_counted, keys_from_queues, of_user};
use support::{Bridge, Decoded, PATIENCE, Stage};
use tokio::time::Instant;

/// A stage that waits 1 s for an answer and reads 64 KiB of it; dead letters take 16 KiB.
async fn stage(name: &str) -> Stage {
    let settings = [
        ("linxo.request_timeout", "\"1s\""),
        ("linxo.max_answer", "\"64KiB\""),
        ("polling.keep_alive", "\"2s\""),
        ("linxo.queue_lifetime", "\"15s\""),
    ];
    let stage = Stage::bare(name, Options::default(), &settings).await;
    let topic = stage.topic("linxo.dead-letters");
    stage.kafka.create_topic(&topic, 4, &[("max.message.bytes", "16384")]).await;
    assert!(stage.run(&["topics", "create"]).await.status.success());
    stage
}

fn sync(stage: &Stage, user: &str) {
    stage.simulator.start_sync(user, &Sync::default()).unwrap();
}

/// The next answer with events of a user meets a fault.
fn inflict(stage: &Stage, user: &str, fault: Fault) {
    let order = Order::next(1, fault).of(user).on(RequestKind::Ask).with_events();
    stage.simulator.inflict(order).unwrap();
}

/// What a dead letter was before it was cut, for each of a user.
fn letters(records: &[Decoded], user: &str) -> Vec<(String, String)> {
    let mut letters: Vec<(String, String)> = Vec::new();
    for record in of_user(records, user) {
        let reason = record.record.header("linxo-reason").unwrap().to_owned();
        let text = record.value.as_str().unwrap();
        match record.record.header("linxo-part").map(|part| part.split_once('/').unwrap()) {
            None | Some(("1", _)) => letters.push((reason, text.to_owned())),
            Some(_) => letters.last_mut().unwrap().1.push_str(text),
        }
    }
    letters
}

/// Waits until the queue gives `outcome` for the user.
async fn counted(bridge: &Bridge, outcome: &str, times: f64) {
    let metric = format!("linxo_bridge_polls_total{{outcome=\"{outcome}\"}}");
    let deadline = Instant::now() + PATIENCE;
    while bridge.metric(&metric).await < times {
        assert!(Instant::now() < deadline, "{outcome} was not met {times} times");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_certain_gap_of_its_user_and_is_followed_by_the_present_state()
{
    let stage = stage("broken").await;
    let bridge = stage.bridge().await;
    let faults = [
        ("cut", Fault::Cut),
        ("hanging", Fault::Hang),
        ("declared", Fault::Oversized { bytes: 200_000, declared: true }),
        ("endless", Fault::Oversized { bytes: 200_000, declared: false }),
        ("slow", Fault::Slow { over_ms: 4_000 }),
    ];
    let users: Vec<&str> = faults.iter().map(|(user, _)| *user).collect();
    for user in users.iter().copied().chain(["served"]) {
        bridge.put(user).await;
        sync(&stage, user);
    }
    // everybody's connection is known, so that the gap is published for it too
    stage.drained().await;
    for (user, fault) in faults {
        inflict(&stage, user, fault);
    }
    for user in users.iter().copied().chain(["served"]) {
        sync(&stage, user);
    }
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() >= 4 * users.len()).await;
    for user in users.iter().copied().chain(["served"]) {
        bridge.show_until(user, |view| view["state"] == "live").await;
        sync(&stage, user);
    }

    let ledger = stage.simulator.ledger(None);
    for user in &users {
        let lost: Vec<_> =
            ledger.with_fate(Fate::LostOnTheWire).filter(|event| *event.user == **user).collect();
        assert_eq!(lost.len(), 10, "{user}");
        let of_user = of_user(&gaps, user);
        assert_eq!(of_user.len(), 4, "{user}: {of_user:#?}");
        for gap in &of_user {
            assert_eq!((gap.text("cause"), gap.text("certainty")), ("ANSWER_LOST", "CERTAIN"));
            assert_eq!(gap.value["gap_id"], of_user[0].value["gap_id"]);
            assert_eq!(gap.text("last_event_id"), "10");
            let (from, to) =
                (gap.value["from"].as_u64().unwrap(), gap.value["to"].as_u64().unwrap());
            for event in &lost {
                let at = event.handed_out.as_ref().unwrap().at;
                assert!(
                    from <= event.made_at && from <= at && at <= to,
                    "{user}: {event:?} {gap:#?}"
                );
            }
        }
        for reconciled in [false, true] {
            let keys = of_user.iter().filter(|gap| gap.value["reconciled"] == reconciled);
            assert_eq!(keys.filter(|gap| gap.key == **user).count(), 1, "{user}");
        }
        // no new queue was made: the old one lives
        assert_eq!(ledger.users.iter().find(|entry| *entry.user == **user).unwrap().subscribes, 1);
    }
    assert_eq!(of_user(&gaps, "served").len(), 0);
    assert_eq!(stage.simulator.stats().listings, users.len() as u64);

    let events = stage.all_published_once().await;
    for user in users {
        let states: Vec<_> = of_user(&events, user)
            .into_iter()
            .filter(|event| event.text("event_type") == "CONNECTION_STATE")
            .collect();
        assert_eq!(states.len(), 1, "{user}");
        assert_eq!(states[0].value["origin"], "RECONCILIATION");
        assert_eq!(states[0].value["sequence"], 11);
    }
    assert_eq!(stage.read("linxo.gaps").await.len(), gaps.len());

    // what was read of them is a dead letter, cut where the topic does not take it whole
    let records = stage.read("linxo.dead-letters").await;
    assert!(records.iter().all(|record| record.record.value.as_ref().unwrap().len() < 16_384));
    for user in ["declared", "endless"] {
        let letters = letters(&records, user);
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].0.as_str(), letters[0].1.len()), ("oversized", 65_536));
        assert!(letters[0].1.starts_with("[\"xxx"));
    }
    let cut = letters(&records, "cut");
    assert_eq!(cut[0].0, "malformed");
    assert!(cut[0].1.contains("SYNC_ALL_STARTED"));
    assert_eq!(letters(&records, "hanging").len(), 0, "nothing was read of it");
    counted(&bridge, "broken", 3.0).await;
    counted(&bridge, "oversized", 2.0).await;
    stage.assert_secret(&bridge, &[]).await;
}

#[tokio::test]
async fn a_slow_body_that_arrives_in_time_is_published() {
    let stage = stage("slow").await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    inflict(&stage, "user", Fault::Slow { over_ms: 400 });
    sync(&stage, "user");
    assert_eq!(stage.all_published_once().await.len(), 10);
    assert_eq!(stage.simulator.stats().faults[&FaultName::Slow], 1);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
}

#[tokio::test]
async fn an_answer_without_a_head_in_time_is_a_possible_gap_and_nothing_is_listed() {
    // a source before the source that takes the question and says nothing
    let mut stage = stage("headless").await;
    let (url, swallow) = relay(stage.simulator.address()).await;
    let api_url = stage.simulator.url().replace(&stage.simulator.address().to_string(), &url);
    stage.set("linxo.api_url", &format!("{api_url:?}"));
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    sync(&stage, "user");
    stage.drained().await;
    sync(&stage, "user");
    swallow.send_replace(true);
    counted(&bridge, "timeout", 2.0).await;
    assert_eq!(bridge.show("user").await["last_answer"]["outcome"], "timeout");
    swallow.send_replace(false);
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() == 2).await;
    for gap in &gaps {
        assert_eq!((gap.text("cause"), gap.text("certainty")), ("ANSWER_LOST", "POSSIBLE"));
        assert_eq!(gap.value["reconciled"], false);
    }
    // what the source thinks it has handed out lies inside the gap
    let ledger = stage.simulator.ledger(None);
    let published = keys_from_queues(&stage.read("linxo.events").await);
    let (from, to) =
        (gaps[0].value["from"].as_u64().unwrap(), gaps[0].value["to"].as_u64().unwrap());
    let mut lost = 0;
    for event in ledger.with_fate(Fate::HandedOut) {
        let key = support::oracle::idempotency_key(event);
        if !published.contains(&key) {
            lost += 1;
            let at = event.handed_out.as_ref().unwrap().at;
            assert!(from <= event.made_at && at <= to, "{event:?} is not in {gaps:#?}");
        }
    }
    assert!(lost > 0, "the relay has swallowed events");
    sync(&stage, "user");
    let before = published.len();
    stage.until("linxo.events", |events| events.len() >= before + 10).await;
    assert_eq!(stage.simulator.stats().listings, 0);
    assert_eq!(bridge.show("user").await["state"], "live");
    assert_eq!(stage.read("linxo.gaps").await.len(), 2);
}

/// A relay before the source; told to swallow, it passes questions on and keeps their answers.
async fn relay(source: std::net::SocketAddr) -> (String, tokio::sync::watch::Sender<bool>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (swallow, swallowing) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let swallowing = swallowing.clone();
            tokio::spawn(async move {
                let Ok(server) = tokio::net::TcpStream::connect(source).await else { return };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let asking = tokio::io::copy(&mut from_client, &mut to_server);
                let answering = async {
                    let mut bytes = vec![0; 64 * 1024];
                    while let Ok(read) = from_server.read(&mut bytes).await {
                        if read == 0 {
                            return;
                        }
                        if !*swallowing.borrow()
                            && to_client.write_all(&bytes[..read]).await.is_err()
                        {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = asking => {}
                    () = answering => {}
                }
            });
        }
    });
    (address, swallow)
}

#[tokio::test]
async fn a_body_that_is_no_list_is_a_dead_letter_and_one_possible_gap_and_the_queue_is_asked_on() {
    let stage = stage("malformed").await;
    let bridge = stage.bridge().await;
    for user in ["json", "html", "inside", "object"] {
        bridge.put(user).await;
        sync(&stage, user);
    }
    stage.drained().await;
    inflict(&stage, "json", Fault::InvalidJson);
    inflict(&stage, "html", Fault::Html);
    stage.simulator.inflict(Order::next(2, Fault::Html).of("html").on(RequestKind::Ask)).unwrap();
    sync(&stage, "json");
    sync(&stage, "html");
    stage.simulator.push("inside", r#"{"id": "7", "password": "hush-hush", broken}"#).unwrap();
    stage.simulator.push("object", r#"{"id": "7"},"#).unwrap();
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() == 8).await;
    for gap in &gaps {
        assert_eq!((gap.text("cause"), gap.text("certainty")), ("ANSWER_LOST", "POSSIBLE"));
        assert_eq!(gap.text("last_event_id"), "10", "{gap:#?}");
    }
    assert_eq!(stage.simulator.stats().listings, 0);
    for user in ["json", "html", "inside", "object"] {
        assert_eq!(of_user(&gaps, user).len(), 2, "{user}");
        sync(&stage, user);
    }
    let before = 40;
    let events = stage.until("linxo.events", |events| events.len() == before + 40).await;
    assert_counted(&events);

    let records = stage.read("linxo.dead-letters").await;
    let json = letters(&records, "json");
    assert_eq!((json.len(), json[0].0.as_str()), (1, "malformed"));
    assert!(json[0].1.contains("SYNC_ALL_SUCCESS") && !json[0].1.contains(FAKE_SECRET));
    let html = letters(&records, "html");
    assert_eq!(html.len(), 3);
    assert!(html.iter().all(|(_, text)| text.starts_with("<!DOCTYPE html>")));
    for user in ["inside", "object"] {
        let letters = letters(&records, user);
        assert_eq!((letters.len(), letters[0].0.as_str()), (1, "not_json"), "{user}");
        assert!(letters[0].1.contains("\"id\": \"7\""), "{letters:?}");
    }
    counted(&bridge, "malformed", 4.0).await;
    let dead = "linxo_bridge_dead_letters_total{reason=\"malformed\"}";
    assert_eq!(bridge.metric(dead).await, 4.0);
    stage.assert_secret(&bridge, &["hush-hush"]).await;
}

#[tokio::test]
async fn elements_that_are_no_events_are_dead_letters_and_the_rest_of_the_answer_is_published() {
    let stage = stage("elements").await;
    let bridge = stage.bridge().await;
    let plan = ConnectionPlan { id: Some("c1".into()), ..ConnectionPlan::default() };
    stage.simulator.put_user("user", &[plan]).unwrap();
    bridge.put("user").await;
    let good = |id: &str| {
        format!(
            r#"{{"id":"{id}","event_type":"X","resource_type":"CONNECTION","resource":{{"id":"c1","password":"hush-hush"}}}}"#
        )
    };
    let bad = [
        (r#"{"event_type":"X","password":"hush-hush"}"#, "missing_id"),
        (r#"{"id":"b2"}"#, "missing_type"),
        (r#"{"id":"b3","event_type":7}"#, "wrong_type"),
        (r#"{"id":"b4","event_type":"X","creation_date":{}}"#, "wrong_type"),
        (
            r#"{"id":"b5","event_type":"X","resource_type":"CONNECTION","resource":[]}"#,
            "wrong_type",
        ),
        ("17", "not_an_object"),
        ("null", "not_an_object"),
        ("[]", "not_an_object"),
        (r#""text""#, "not_an_object"),
        (r#"{"id":"half \ud800","event_type":"X"}"#, "wrong_type"),
    ];
    for (place, (element, _)) in bad.iter().enumerate() {
        stage.simulator.push("user", &good(&format!("a{place}"))).unwrap();
        stage.simulator.push("user", element).unwrap();
    }
    stage.simulator.push("user", &good("last")).unwrap();
    let events = stage.until("linxo.events", |events| events.len() == bad.len() + 1).await;
    assert_counted(&events);
    let ids: Vec<&str> = events.iter().map(|event| event.text("event_id")).collect();
    assert_eq!(ids, ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "last"]);
    assert!(events.iter().all(|event| event.key == "c1"));

    let records = stage.read("linxo.dead-letters").await;
    let found = letters(&records, "user");
    let reasons: Vec<&str> = found.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, bad.map(|(_, reason)| reason));
    for ((_, text), (element, _)) in found.iter().zip(bad).skip(1) {
        assert_eq!(text, element);
    }
    assert!(found[0].1.contains(r#""event_type":"X""#));
    assert_eq!(stage.read("linxo.gaps").await.len(), 0, "elements cost the others nothing");
    stage.assert_secret(&bridge, &["hush-hush"]).await;
}

#[tokio::test]
async fn events_out_of_order_of_unknown_types_without_connection_and_of_both_channels_are_published()
 {
    let stage = stage("unusual").await;
    let bridge = stage.bridge().await;
    for user in ["reordered", "unknown", "extras"] {
        bridge.put(user).await;
    }
    inflict(&stage, "reordered", Fault::Reorder);
    inflict(&stage, "unknown", Fault::UnknownType);
    sync(&stage, "reordered");
    sync(&stage, "unknown");
    let extras = Sync { extras: true, ..Sync::default() };
    stage.simulator.start_sync("extras", &extras).unwrap();
    let events = stage.all_published_once().await;

    let number = |event: &&Decoded| event.text("event_id").parse::<u32>().unwrap();
    let reordered: Vec<u32> = of_user(&events, "reordered").iter().map(number).collect();
    assert_eq!(reordered, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1], "as handed out");
    let unknown = of_user(&events, "unknown");
    assert!(unknown.iter().all(|event| event.text("event_type") == "SIMULATOR_UNKNOWN_TYPE"));

    let extras = of_user(&events, "extras");
    let keyed_by_user: Vec<&str> = extras
        .iter()
        .filter(|event| event.key == "extras")
        .map(|event| event.text("event_type"))
        .collect();
    assert_eq!(keyed_by_user, ["CHOOSE_BANK_SUCCESS", "SIMULATOR_NOTICE"]);
    let without = extras.iter().filter(|event| event.key == "extras");
    assert!(without.clone().all(|event| event.value["connection_id"] == Value::Null));
    for mode in ["REDIRECT", "EMBEDDED"] {
        let about = extras.iter().filter(|event| event.value["channel_mode"] == mode);
        assert!(about.count() >= 4, "{mode}");
    }
    let ends = |event: &&&Decoded| event.text("event_type").starts_with("SYNC_ALL");
    assert_eq!(extras.iter().filter(ends).count(), 2);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    stage.assert_secret(&bridge, &[]).await;
}
