//! A million queues on one instance, for rounds of the keep-alive interval.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ground::{KEEP_ALIVE, Tokens, start, usage, world};
use crate::support::{Bridge, Kafka, http};

/// How long one path took to answer, each time, and how much it answered.
#[derive(Default)]
struct Looks {
    took: Vec<Duration>,
    bytes: usize,
}

impl Looks {
    async fn look(&mut self, bridge: &Bridge, path: &str) {
        let began = Instant::now();
        let answer = http().get(format!("{}{path}", bridge.url)).send().await.unwrap();
        self.bytes = answer.bytes().await.unwrap().len();
        self.took.push(began.elapsed());
        self.took.sort();
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: usize| self.took[(self.took.len() - 1) * share / 100];
        let (median, late, last) = (at(50), at(90), at(100));
        write!(out, "{} bytes in {median:.1?}, p90 {late:.1?}, at most {last:.1?}", self.bytes)
    }
}

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
        let (mut scrapes, mut bare, began) = (Looks::default(), Looks::default(), Instant::now());
        while Instant::now() < end {
            sleep(Duration::from_secs(5)).await;
            most = most.max(usage(bridge.pid()).1);
            scrapes.look(&bridge, "/metrics").await;
            bare.look(&bridge, "/livez").await;
        }
        let stats = source.stats().await;
        let asked = stats["polls"].as_f64().unwrap() - polls;
        let spent = usage(bridge.pid()).0 - cpu;
        println!(
            "round {round}: {asked:.0} polls, {:.0} a second, {:.1} % of a core, {:.1} us each; {} deaths; \
             longest pause {:.1} s; {most:.0} MB resident at most",
            asked / began.elapsed().as_secs_f64(),
            100.0 * spent / began.elapsed().as_secs_f64(),
            spent / asked * 1e6,
            stats["deaths"],
            stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        );
        println!("round {round}: scrape {scrapes}; beside it /livez {bare}");
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
