//! A million queues on one instance, for rounds of the keep-alive interval.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ground::{KEEP_ALIVE, Tokens, start, usage, world};
use crate::support::Kafka;

pub(super) async fn run(kafka: &'static Kafka, users: usize, rounds: u32, tokens: Tokens) {
    let (stage, mut source) = world(kafka, "million", users, tokens).await;
    let (bridge, took) = start(&stage, users).await;
    let after_load = usage(bridge.pid()).1;
    println!(
        "{users} queues: loaded and scheduled {took:.1?} after the start, {after_load:.0} MB resident"
    );
    let mut polls = source.stats().await["polls"].as_f64().unwrap();
    let (mut cpu, mut most) = (usage(bridge.pid()).0, after_load);
    for round in 1..=rounds {
        let end = Instant::now() + KEEP_ALIVE;
        let (mut slowest, began) = (Duration::ZERO, Instant::now());
        while Instant::now() < end {
            sleep(Duration::from_secs(15)).await;
            most = most.max(usage(bridge.pid()).1);
            let scraping = Instant::now();
            bridge.get("/metrics").await;
            slowest = slowest.max(scraping.elapsed());
        }
        let stats = source.stats().await;
        let asked = stats["polls"].as_f64().unwrap() - polls;
        let spent = usage(bridge.pid()).0 - cpu;
        println!(
            "round {round}: {asked:.0} polls, {:.0} a second, {:.1} % of a core, {:.1} us each; {} deaths; \
             longest pause {:.1} s; {most:.0} MB resident at most; slowest scrape {slowest:.1?}",
            asked / began.elapsed().as_secs_f64(),
            100.0 * spent / began.elapsed().as_secs_f64(),
            spent / asked * 1e6,
            stats["deaths"],
            stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        );
        (polls, cpu) = (polls + asked, cpu + spent);
    }
    println!("{:.0} bytes a queue", (most - 40.0) * 1e6 / users as f64);
    let began = Instant::now();
    assert!(bridge.stop().await.success());
    println!("stopped after {:.1?}", began.elapsed());
    let (bridge, took) = start(&stage, users).await;
    println!("restart: loaded and scheduled after {took:.1?}");
    sleep(Duration::from_secs(5)).await;
    println!("{} deaths in all", source.stats().await["deaths"]);
    bridge.stop().await;
    source.process.child.kill().await.unwrap();
}
