//! Answers that never come: the connection is reset, or no byte is sent.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends a request as it is, and reads until the end, whatever it is.
async fn raw(bench: &Bench, method: &str, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(bench.simulator.address()).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         x-linxo-user-id: u\r\ncontent-length: {}\r\n\r\n{body}",
        bench.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map(|_| answer)
}

#[tokio::test]
async fn a_reset_removes_the_events_and_resets_the_connection_before_any_byte() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(2, Fault::Reset).await;
    let ended = raw(&bench, "GET", &format!("/v2.1/queues/{queue}"), "").await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Reset)); 2]);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(bench.simulator.stats().answers[&Outcome::Reset], 1);
}

#[tokio::test]
async fn a_client_sees_a_reset_as_an_answer_without_a_head_and_goes_on() {
    let bench = Bench::with(Options { delivery: Delivery::Repeatable, ..Options::default() }).await;
    let queue = bench.queue_with(2, Fault::Reset).await;
    // A connection that was used before, as a pool has them.
    bench.list("u").await;
    let url = format!("{}/queues/{queue}", bench.simulator.url());
    let asked = bench.client.get(url).bearer_auth(&bench.token).header("x-linxo-user-id", "u");
    let failure = asked.send().await.unwrap_err();
    assert!(!failure.is_connect() && !failure.is_timeout(), "{failure:?}");
    assert_eq!(bench.fates(), [(Fate::Waiting, Some(FaultName::Reset)); 2]);
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 2);
    assert_eq!(bench.fates(), [(Fate::HandedOut, None); 2]);
    assert_eq!(bench.simulator.ledger(None).events[0].times_lost, 1);
}

#[tokio::test]
async fn an_answer_that_vanishes_ends_with_the_client_and_its_events_are_lost() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Vanish).await;
    let url = format!("{}/queues/{queue}", bench.simulator.url());
    let asked = bench
        .client
        .get(url)
        .bearer_auth(&bench.token)
        .header("x-linxo-user-id", "u")
        .timeout(Duration::from_millis(50));
    assert!(asked.send().await.unwrap_err().is_timeout());
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Vanish))]);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_answer_that_vanishes_does_not_hold_up_a_stop() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Vanish).await;
    let path = format!("/v2.1/queues/{queue}");
    let waiting = raw(&bench, "GET", &path, "");
    let stopping = async {
        while bench.simulator.stats().polls == 0 {
            tokio::task::yield_now().await;
        }
        bench.simulator.stop.send_replace(true);
    };
    let both = async { tokio::join!(waiting, stopping) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    tokio::time::timeout(Duration::from_secs(2), bench.simulator.stop()).await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_is_reset_has_made_a_queue_that_nobody_knows() {
    let bench = Bench::start().await;
    let order = Order::next(1, Fault::Reset).of("u").on(RequestKind::Subscribe);
    bench.simulator.inflict(order).unwrap();
    let body = r#"{"topics":["connections"]}"#;
    assert!(raw(&bench, "POST", "/v2.1/queues/subscribe", body).await.is_err());
    assert_eq!(bench.simulator.live_queues("u").len(), 1);
    let order = Order::next(1, Fault::Reset).on(RequestKind::Connections);
    bench.simulator.inflict(order).unwrap();
    assert!(raw(&bench, "GET", "/v2.1/connections", "").await.is_err());
}
