//! What is handed out more than once, over HTTP.

use super::*;

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["id"].as_str().unwrap()).collect()
}

async fn repeatable() -> Bench {
    Bench::with(Options { delivery: Delivery::Repeatable, ..Options::default() }).await
}

#[tokio::test]
async fn a_slow_body_that_the_client_does_not_wait_for_is_handed_out_again() {
    let bench = repeatable().await;
    let queue = bench.queue_with(2, Fault::Slow { over_ms: 5_000 }).await;
    let mut answer = bench.ask("u", &queue).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    let noticed = async {
        while bench.simulator.stats().times_lost == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    assert_eq!(bench.fates(), [(Fate::Waiting, Some(FaultName::Slow)); 2]);
    bench.simulator.push_events("u", None, 1).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    assert_eq!(ids(&got), ["1", "2", "3"]);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_slow_body_that_arrived_is_confirmed_by_the_next_question() {
    let bench = repeatable().await;
    let queue = bench.queue_with(2, Fault::Slow { over_ms: 40 }).await;
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 2);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(bench.fates(), [(Fate::HandedOut, Some(FaultName::Slow)); 2]);
    assert_eq!(bench.simulator.stats().times_lost, 0);
}

#[tokio::test]
async fn a_repeat_and_a_duplicate_are_the_same_bytes_again() {
    let bench = Bench::start().await;
    let queue = bench.queue("u").await;
    bench.simulator.inflict(Order::next(1, Fault::Repeat).of("u")).unwrap();
    bench.simulator.push_events("u", None, 1).unwrap();
    let first = events(bench.ask("u", &queue).await).await;
    bench.simulator.push_events("u", None, 1).unwrap();
    let second = events(bench.ask("u", &queue).await).await;
    assert_eq!(ids(&second), ["1", "2"]);
    assert_eq!(first[0], second[0]);
    bench.simulator.push_events("u", None, 2).unwrap();
    bench.simulator.inflict(Order::next(1, Fault::Duplicate)).unwrap();
    let third = events(bench.ask("u", &queue).await).await;
    assert_eq!(ids(&third), ["3", "4", "3"]);
    assert_eq!(third[0], third[2]);
    let times: Vec<u32> =
        bench.simulator.ledger(None).events.iter().map(|event| event.times_handed_out).collect();
    assert_eq!(times, [2, 1, 2, 1]);
}
