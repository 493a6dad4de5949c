//! Queues that pass from one instance to another: one is killed, comes back, and gets its share in order.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::ground::{KEEP_ALIVE, PARTITIONS, SESSION, Tokens, live, world};
use crate::support::{Bridge, Kafka};

/// Two instances; one is killed, comes back, and hands over in order.
pub(super) async fn run(kafka: &'static Kafka, users: usize) {
    let (mut stage, mut source) = world(kafka, "takeover", users, Tokens::OfClient).await;
    let first = stage.start().await;
    let journal = stage.folder.path().join("journal-1");
    stage.set("journal.directory", &format!("{journal:?}"));
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let second = stage.start().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    while live(&first).await + live(&second).await < users as f64
        || live(&first).await < users as f64 * 0.4
        || live(&second).await < users as f64 * 0.4
    {
        assert!(Instant::now() < deadline, "not shared out:\n{}", second.log());
        sleep(Duration::from_millis(200)).await;
    }
    // a round, so that everybody is in phase
    sleep(KEEP_ALIVE).await;
    let moved = live(&second).await;
    let before = source.stats().await;
    let killed = Instant::now();
    second.kill().await;
    let owned = "linxo_bridge_partitions_owned";
    while first.metric(owned).await < f64::from(PARTITIONS) {
        sleep(Duration::from_millis(50)).await;
    }
    let granted = killed.elapsed();
    while live(&first).await < users as f64 {
        sleep(Duration::from_millis(50)).await;
    }
    let loaded = killed.elapsed();
    println!(
        "killed, {moved:.0} queues move: granted after {granted:.1?} (session {SESSION:?}), loaded after {loaded:.1?}"
    );
    sleep(KEEP_ALIVE).await;
    takeovers(&first).await;
    let stats = source.stats().await;
    passed("asked by the survivor", &before, &stats);
    println!(
        "longest pause of any queue {:.1} s, keep-alive {KEEP_ALIVE:?}; {} deaths",
        stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        stats["deaths"]
    );
    let before = stats;
    let began = Instant::now();
    let second = stage.start().await;
    while live(&second).await < users as f64 * 0.4 {
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "handed over in order: {:.0} queues asked by the newcomer {:.1?} after its start",
        live(&second).await,
        began.elapsed()
    );
    sleep(KEEP_ALIVE).await;
    let stats = source.stats().await;
    passed("asked by the newcomer", &before, &stats);
    println!("{} deaths", stats["deaths"]);
    assert!(second.stop().await.success());
    assert!(first.stop().await.success());
    source.process.child.kill().await.unwrap();
}

/// How long the queues were left alone that passed from one instance to another between two looks at the source.
fn passed(what: &str, before: &Value, after: &Value) {
    let of = |stats: &Value, seconds: &str| stats["passed_after_seconds"][seconds].as_u64();
    let after_all = after["passed_after_seconds"].as_object().unwrap();
    let mut pauses: Vec<(u64, u64)> = after_all
        .iter()
        .map(|(seconds, count)| {
            let more = count.as_u64().unwrap() - of(before, seconds).unwrap_or(0);
            (seconds.parse().unwrap(), more)
        })
        .filter(|(_, more)| *more > 0)
        .collect();
    pauses.sort_unstable();
    let all: u64 = pauses.iter().map(|(_, count)| count).sum();
    let overdue: u64 =
        pauses.iter().filter(|(s, _)| *s > KEEP_ALIVE.as_secs()).map(|(_, count)| count).sum();
    let at = |share: f64| {
        let mut left = (all as f64 * share) as u64;
        let found = pauses.iter().find(|(_, count)| {
            let is_here = *count > left;
            left = left.saturating_sub(*count);
            is_here
        });
        found.or(pauses.last()).map_or(0, |(seconds, _)| *seconds)
    };
    println!(
        "{all} queues {what}, left alone for p50 {} s, p99 {} s, at most {} s; {overdue} longer than the \
         keep-alive",
        at(0.5),
        at(0.99),
        pauses.last().map_or(0, |(seconds, _)| *seconds)
    );
}

/// From the grant of a partition to the last of its queues asked, as the bridge counts it.
async fn takeovers(bridge: &Bridge) {
    let (_, text) = bridge.get("/metrics").await;
    let text = text.as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("linxo_bridge_takeover_seconds")).collect();
    println!("{}", lines.join("\n"));
}
