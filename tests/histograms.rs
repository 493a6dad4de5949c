//! Whether the histograms of asking measure what they say: questions to queues that live, and each queue of a partition
//! once.

mod support;

use std::time::Duration;

use linxo_kafka_bridge::simulator::{Fault, Options, Order, RequestKind};
use support::{PATIENCE, Stage, path_of};
use tokio::time::{Instant, sleep};

const DELAYS: &str = "linxo_bridge_poll_schedule_delay_seconds_count";
const INTERVALS: &str = "linxo_bridge_poll_interval_seconds_count";

/// Tried again and again and never answered, its interval would grow without an end, and hide those of all others.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_user_is_in_no_interval() {
    let mut stage = Stage::new("refused").await;
    stage.set("credentials.retry", "\"100ms\"");
    let bridge = stage.bridge().await;
    bridge.put("refused").await;
    stage.simulator.inflict(Order::always(Fault::Unauthorized).on(RequestKind::Ask)).unwrap();
    let refused = "linxo_bridge_polls_total{outcome=\"unauthorized\"}";
    let more = async |than: f64| {
        let deadline = Instant::now() + PATIENCE;
        while bridge.metric(refused).await < than {
            assert!(Instant::now() < deadline, "it is not tried:\n{}", bridge.log());
            sleep(Duration::from_millis(30)).await;
        }
    };
    more(3.0).await;
    let before = (bridge.metric(DELAYS).await, bridge.metric(INTERVALS).await);
    assert!(before.0 > 0.0, "it was asked before it was refused");
    more(bridge.metric(refused).await + 5.0).await;
    assert_eq!((bridge.metric(DELAYS).await, bridge.metric(INTERVALS).await), before);
    assert!(bridge.stop().await.success());
}

/// A few queues that are asked often are not all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_taken_over_when_each_of_its_queues_was_asked() {
    let settings = [
        ("topics.partitions", "1"),
        ("polling.keep_alive", "\"6s\""),
        ("polling.active", "\"50ms\""),
    ];
    let stage = Stage::with("takeover", Options::default(), &settings).await;
    let bridge = stage.bridge().await;
    for number in 0..20 {
        bridge.put(&format!("user-{number}")).await;
    }
    // quiet again
    sleep(Duration::from_secs(6)).await;
    assert!(bridge.stop().await.success());
    let bridge = stage.bridge().await;
    for number in 0..5 {
        let hint = path_of(&format!("user-{number}")) + "/hint";
        assert_eq!(bridge.call("POST", &hint, None).await.0, 202);
    }
    let deadline = Instant::now() + PATIENCE;
    while bridge.metric("linxo_bridge_takeover_seconds_count").await == 0.0 {
        assert!(Instant::now() < deadline, "it is never over");
        sleep(Duration::from_millis(50)).await;
    }
    // the last of fifteen moments in six seconds; one after another the five would be twenty within a third of one
    let took = bridge.metric("linxo_bridge_takeover_seconds_sum").await;
    assert!(took > 1.5, "{took} s");
    assert!(bridge.stop().await.success());
}
