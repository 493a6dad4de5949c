//! No queue dies while the bridge runs: each is asked at least every keep-alive interval, when it is
//! quiet, when the request budget is short because others are active, and across a restart.

#![expect(clippy::panic, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use linxo_kafka_bridge::simulator::Options;
use support::{Bridge, Stage, oracle};

const LIFE: Duration = Duration::from_secs(6);
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// Requests a second in the test of a short budget.
const BUDGET: f64 = 110.0;
/// A busy machine may be this late, and a queue still has half of its life left.
const MARGIN: Duration = Duration::from_millis(1500);

/// A world in which queues die after [`LIFE`], and the bridge's intervals are in proportion.
async fn hurried(name: &str, more: &[(&str, &str)]) -> Stage {
    let options = Options { queue_lifetime: LIFE, ..Options::default() };
    let mut settings = vec![
        ("linxo.queue_lifetime", "\"6s\""),
        ("linxo.request_timeout", "\"2s\""),
        ("polling.keep_alive", "\"1500ms\""),
        ("polling.active", "\"250ms\""),
        ("polling.active_for", "\"1s\""),
        ("kafka.session_timeout", "\"2s\""),
    ];
    settings.extend(more);
    Stage::with(name, options, &settings).await
}

fn names(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{of}-{number}")).collect()
}

async fn put_all(bridge: &Bridge, users: &[String]) {
    stream::iter(users).for_each_concurrent(32, async |user| drop(bridge.put(user).await)).await;
}

/// Waits until so many lives of a queue have passed since `since`.
async fn live(stage: &Stage, lives: f64, since: u64) {
    let until = since + LIFE.mul_f64(lives).as_millis() as u64;
    oracle::eventually("time goes on", || stage.simulator.stats().now >= until).await;
}

/// Every user has the queue that was made first, and it was never left alone for longer than this.
fn assert_kept_alive(stage: &Stage, users: usize, longest: Duration) {
    let ledger = stage.simulator.ledger(None);
    assert!(ledger.deaths.is_empty(), "{} died: {:?}", ledger.deaths.len(), ledger.deaths[0]);
    assert_eq!(ledger.queues.len(), users);
    assert!(ledger.users.iter().all(|user| user.subscribes == 1));
    for queue in &ledger.queues {
        let pause = Duration::from_millis(queue.longest_pause_ms.max(queue.silent_ms));
        assert!(pause <= longest, "left alone for {pause:?}: {queue:?}");
    }
}

#[tokio::test]
async fn quiet_queues_live_on_over_three_lives_and_across_a_restart() {
    let stage = hurried("quiet", &[]).await;
    let users = names("quiet", 300);
    let bridge = stage.bridge().await;
    put_all(&bridge, &users).await;
    let began = stage.simulator.stats().now;
    live(&stage, 1.0, began).await;
    assert_kept_alive(&stage, users.len(), KEEP_ALIVE + MARGIN);

    assert!(bridge.stop().await.success());
    let bridge = stage.bridge().await;
    live(&stage, 3.0, began).await;
    // nobody could ask between the stop and the start
    assert_kept_alive(&stage, users.len(), LIFE);
    let polls = stage.simulator.stats().polls as f64;
    let needed = users.len() as f64 * LIFE.as_secs_f64() * 3.0 / KEEP_ALIVE.as_secs_f64();
    assert!(polls < needed * 2.0, "{polls} questions where {needed} keep all alive");
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn keep_alive_is_never_missed_when_active_users_ask_for_more_than_the_budget() {
    // 100 quiet users need 67 questions a second, 40 active ones would take 400 more
    let budget = BUDGET.to_string();
    let more =
        [("linxo.max_requests_per_second", budget.as_str()), ("polling.active", "\"100ms\"")];
    let stage = hurried("short", &more).await;
    let (quiet, active) = (names("quiet", 100), names("active", 40));
    let bridge = stage.bridge().await;
    let opened = stage.simulator.stats().now;
    put_all(&bridge, &quiet).await;
    put_all(&bridge, &active).await;
    let began = stage.simulator.stats().now;
    let busy = async {
        loop {
            for user in &active {
                bridge.call("POST", &format!("{}/hint", support::path_of(user)), None).await;
            }
        }
    };
    tokio::select! {
        () = live(&stage, 1.5, began) => {}
        () = busy => {}
    }
    let required = bridge.metric("linxo_bridge_request_budget_required_per_second").await;
    assert!(required > 2.0 * BUDGET, "{required} questions a second are no shortage");
    assert_kept_alive(&stage, quiet.len() + active.len(), KEEP_ALIVE + MARGIN);
    let stats = stage.simulator.stats();
    let seconds = (stats.now - opened) as f64 / 1000.0;
    let asked = (stats.polls + stats.subscribes) as f64;
    assert!(asked <= BUDGET * (seconds + 1.0), "{asked} requests in {seconds} s");
    assert!(bridge.stop().await.success());
}
