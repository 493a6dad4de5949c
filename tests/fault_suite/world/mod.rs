//! The world of one scenario: a bridge with users whose events flow, until the verdict.
//!
//! Times are in proportion: a minute is a second, so a queue lives 15 s and Kafka is away for 20. What the machine takes
//! (a broker that starts, a call) does not shrink with it, hence the slack in what pauses are judged by.

mod others;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linxo_kafka_bridge::config::Config;
use linxo_kafka_bridge::kafka::Clients;
use linxo_kafka_bridge::oracle::Delivery::{Once, Repeatable};
use linxo_kafka_bridge::oracle::{self, Disturbance, Patience, Rules, Verdict};
use linxo_kafka_bridge::record::Topics;
use linxo_kafka_bridge::registry::Registry as SchemaIds;
use linxo_kafka_bridge::simulator::{ConnectionPlan, Delivery, Options, Order};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::flow::Flow;
use crate::scenario::Context;
use crate::support::{Bridge, Kafka, Stage};

const USERS: usize = 12;
/// How long the bridge may take to come to rest after the last heal.
const REST: Duration = Duration::from_secs(50);
const LOOK: Duration = Duration::from_millis(100);

/// A bridge, its users, and what was done to it.
pub struct World {
    pub stage: Stage,
    pub kafka: &'static Kafka,
    pub random: StdRng,
    pub rules: Rules,
    /// Real times.
    pub is_long: bool,
    /// How long a queue lives that nobody asks.
    pub life: Duration,
    context: Context,
    bridge: Option<Bridge>,
    /// The other instances that run, by number; the one above is number 0.
    others: BTreeMap<usize, Bridge>,
    flow: Option<Flow>,
    told: String,
    /// Since when nobody can ask, and how long that was at most before.
    absent: Option<Instant>,
    longest_absence: Duration,
}

impl World {
    /// Users subscribed, events flowing for a second.
    pub async fn new(context: Context, settings: &[(&str, &str)]) -> Self {
        Self::with(context, Options::default(), settings).await
    }

    /// The same before a source with options of its own.
    pub async fn with(context: Context, options: Options, settings: &[(&str, &str)]) -> Self {
        let mut world = Self::quiet_with(context, options, settings).await;
        world.flow();
        tokio::time::sleep(Duration::from_secs(1)).await;
        world
    }

    /// Users subscribed, nothing happens.
    pub async fn quiet(context: Context, settings: &[(&str, &str)]) -> Self {
        Self::quiet_with(context, Options::default(), settings).await
    }

    async fn quiet_with(context: Context, options: Options, settings: &[(&str, &str)]) -> Self {
        let mut world = Self::bare_with(context, options, settings).await;
        let made = world.stage.run(&["topics", "create"]).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        world.start().await;
        world.subscribe().await;
        world
    }

    /// Without topics, bridge and users.
    pub async fn bare(context: Context, settings: &[(&str, &str)]) -> Self {
        Self::bare_with(context, Options::default(), settings).await
    }

    async fn bare_with(context: Context, options: Options, settings: &[(&str, &str)]) -> Self {
        let (life, times) = if context.is_long { real_times() } else { times_in_proportion() };
        let is_repeatable = options.delivery == Delivery::Repeatable;
        let options = Options { queue_lifetime: life, seed: context.seed, ..options };
        let mut all: Vec<(&str, &str)> = times.iter().chain(settings).copied().collect();
        if is_repeatable {
            all.push(("linxo.delivery", "\"repeatable\""));
        }
        let name = context.id.to_lowercase();
        let mut stage = Stage::on(context.kafka, &name, options, &all).await;
        stage.sabotage(&context.sabotage);
        if settings.contains(&("kafka.group_protocol", "\"consumer\"")) {
            // it is the broker's
            stage.unset("kafka.session_timeout");
        }
        let keep_alive = life / 3;
        let rules = Rules {
            // asked each third of its life, and a busy machine may be late by another quarter
            longest_pause: Some(keep_alive + life / 4),
            delivery: if is_repeatable { Repeatable } else { Once },
            ..Rules::default()
        };
        Self {
            stage,
            kafka: context.kafka,
            random: StdRng::seed_from_u64(context.seed),
            rules,
            is_long: context.is_long,
            life,
            context,
            bridge: None,
            others: BTreeMap::new(),
            flow: None,
            told: String::new(),
            absent: None,
            longest_absence: Duration::ZERO,
        }
    }

    /// The names of the users.
    pub fn users(&self) -> Vec<String> {
        (0..USERS).map(|number| format!("user-{number}")).collect()
    }

    /// The bridge, which runs.
    pub fn bridge(&self) -> &Bridge {
        self.bridge.as_ref().expect("the bridge runs")
    }

    /// The bridge, which may end by itself.
    pub fn bridge_mut(&mut self) -> &mut Bridge {
        self.bridge.as_mut().expect("the bridge runs")
    }

    pub async fn subscribe(&self) {
        for user in self.users() {
            let plans = vec![ConnectionPlan::default(); 2];
            self.stage.simulator.put_user(&user, &plans).unwrap();
            self.bridge().put(&user).await;
        }
    }

    /// Has events flow until the end.
    pub fn flow(&mut self) {
        let pause = Duration::from_millis(if self.is_long { 1_000 } else { 50 });
        let simulator = self.stage.simulator.clone();
        self.flow = Some(Flow::start(simulator, self.users(), self.context.seed, pause));
    }

    /// Lets so many minutes pass: seconds, when times are in proportion.
    pub async fn pause(&self, minutes: u64) {
        self.pause_for(Duration::from_secs(minutes)).await;
    }

    /// The same for less than a minute, given as what it is in proportion.
    pub async fn pause_for(&self, time: Duration) {
        tokio::time::sleep(if self.is_long { time * 60 } else { time }).await;
    }

    /// Orders a fault of the source for so many minutes.
    pub async fn afflict(&self, order: Order, minutes: u64) {
        self.stage.simulator.inflict(order).unwrap();
        self.pause(minutes).await;
        self.stage.simulator.heal();
    }

    /// Starts a bridge and waits until it is ready.
    pub async fn start(&mut self) {
        self.launch().await;
        self.ready().await;
    }

    /// Starts a bridge; it may not be ready.
    pub async fn launch(&mut self) {
        self.bury();
        self.bridge = Some(self.stage.start().await);
    }

    /// Every instance that runs.
    fn running(&self) -> impl Iterator<Item = &Bridge> {
        self.bridge.iter().chain(self.others.values())
    }

    /// Waits until the bridge is ready.
    pub async fn ready(&mut self) {
        self.bridge().ready().await;
        self.is_back();
    }

    /// Takes note of the bridge being ready again, if it is.
    pub async fn look(&mut self) {
        if self.absent.is_some() && self.bridge().get("/readyz").await.0 == 200 {
            self.is_back();
        }
    }

    /// SIGKILL. The questions that were under way may cost a gap each.
    pub async fn kill(&mut self) {
        let from = now();
        self.bury_after(|bridge| async { bridge.kill().await }).await;
        self.excuse("killed", from, USERS as u64);
    }

    /// SIGTERM, and the end that it asks for.
    pub async fn stop(&mut self) {
        self.bury_after(|bridge| async {
            let status = bridge.stop().await;
            assert!(status.success(), "the bridge stopped with {status}");
        })
        .await;
    }

    /// Waits until the bridge has ended as it was told to (`Stage::sabotage`); it may cost a gap as a kill does.
    pub async fn crashed(&mut self) {
        let from = now();
        let status = self.bridge_mut().ended().await;
        assert!(!status.success(), "it crashed with {status}");
        self.bury();
        self.excuse("crashed", from, USERS as u64);
    }

    /// SIGSTOP for so long; the questions that were under way may cost a gap each.
    pub async fn freeze(&mut self, time: Duration) {
        self.stun().await;
        self.pause_for(time).await;
        self.revive().await;
    }

    /// SIGSTOP; the questions that were under way may cost a gap each.
    pub async fn stun(&mut self) {
        self.excuse("frozen", now(), USERS as u64);
        self.absent.get_or_insert_with(Instant::now);
        self.bridge().pause().await;
    }

    /// SIGCONT.
    pub async fn revive(&mut self) {
        self.bridge().resume().await;
        self.is_back();
    }

    /// Writes down that something was done since `from` in which answers may have been lost.
    pub fn excuse(&mut self, what: &str, from: u64, gaps: u64) {
        // what was under way had begun before; and what a killed process asked shows when the next one runs
        let from = from - if self.is_long { 10_000 } else { 3_000 };
        let to = now() + 30_000;
        self.rules.disturbances.push(Disturbance { what: what.to_owned(), from, to, gaps });
    }

    /// The transactional id of the bridge, once it has committed.
    pub async fn transactional_id(&self) -> String {
        let marks = self.stage.until("linxo.journals", |marks| !marks.is_empty()).await;
        format!("{}-{}", self.group(), marks.last().unwrap().key)
    }

    /// The bridge's group.
    pub fn group(&self) -> String {
        format!("{}group", self.stage.prefix)
    }

    /// The topics that the bridge writes to, by their whole names.
    pub fn topics(&self) -> Vec<String> {
        crate::support::account::TOPICS.iter().map(|topic| self.stage.topic(topic)).collect()
    }

    /// A broker of the cluster.
    pub fn any_broker(&mut self) -> usize {
        self.random.random_range(1..=self.kafka.brokers().len())
    }

    /// Adds to what is written down of the run.
    pub fn note(&mut self, what: &str) {
        writeln!(self.told, "--- {} {what}", now()).unwrap();
    }

    /// Heals everything, waits until nothing is left to do, and has the oracle judge.
    pub async fn verdict(mut self) -> Verdict {
        self.note("healing");
        self.kafka.heal().await;
        self.stage.simulator.heal();
        match &self.bridge {
            Some(bridge) => bridge.resume().await,
            None => self.start().await,
        }
        for other in self.others.values() {
            other.resume().await;
        }
        if !self.stage.simulator.stats().faults.is_empty() {
            // a suspicion is told as a gap only after a while
            tokio::time::sleep(self.life / 15 + Duration::from_secs(1)).await;
        }
        self.rest().await;
        // queues that nobody asks die, so the ledger is read before the stop, the topics after it
        let stats = self.stage.simulator.stats();
        let ledger = self.stage.simulator.ledger(None);
        self.rules.met = stats.faults;
        let cut = ledger.outages.iter().map(|one| Disturbance::outage(one, USERS as u64));
        self.rules.disturbances.extend(cut);
        let outages = ledger.outages.iter().map(|one| one.to.saturating_sub(one.from)).max();
        let outage = Duration::from_millis(outages.unwrap_or(0));
        // who is not there, or is not let in, asks nobody; the one may follow the other
        self.rules.longest_pause =
            { self.rules.longest_pause }.map(|bound| bound + self.longest_absence + outage);
        for number in self.others.keys().copied().collect::<Vec<usize>>() {
            self.leave(number).await;
        }
        self.stop().await;
        let config = Config::load(Some(&self.stage.config()), std::iter::empty()).unwrap();
        let names = Topics::new(&self.stage.prefix, "linxo.actions.{action}");
        let clients = Clients::new(&config.kafka);
        let registry = config.schema_registry.as_ref().map(|registry| {
            SchemaIds::new(&registry.url, registry.register, Arc::new(|_| {})).unwrap()
        });
        let read = oracle::read_all(&clients, &names, registry.as_ref(), Patience::default()).await;
        let holdings = read.unwrap_or_else(|error| panic!("{error}"));
        oracle::judge(&ledger, &holdings, &names, &self.rules)
    }

    /// Waits until the flow has ended, nothing waits at the source, and the bridge has published what it holds.
    async fn rest(&mut self) {
        let made = match self.flow.take() {
            Some(flow) => flow.end().await,
            None => 0,
        };
        let deadline = Instant::now() + if self.is_long { REST * 10 } else { REST };
        self.ready().await;
        let mut quiet = 0;
        // twice in a row, as an answer may just be on its way from the one to the other
        while quiet < 2 {
            assert!(
                !self.bridge_mut().has_ended(),
                "the bridge ended by itself:\n{}",
                self.bridge().log()
            );
            let stats = self.stage.simulator.stats();
            let is_quiet = stats.made >= made && stats.waiting == 0 && self.is_idle().await;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no rest: {stats:?}\n{}", self.figures().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether no instance has anything left to publish, or a queue to recover.
    async fn is_idle(&self) -> bool {
        for instance in self.running() {
            if !is_idle(instance).await {
                return false;
            }
        }
        true
    }

    async fn figures(&self) -> String {
        figures(self.bridge()).await
    }

    fn is_back(&mut self) {
        if let Some(since) = self.absent.take() {
            self.longest_absence = self.longest_absence.max(since.elapsed());
        }
    }

    async fn bury_after<F: Future<Output = ()>>(&mut self, end: impl FnOnce(Bridge) -> F) {
        self.bury_log();
        self.absent.get_or_insert_with(Instant::now);
        let bridge = self.bridge.take().expect("the bridge runs");
        end(bridge).await;
    }

    /// Keeps the log of a bridge that has ended by itself.
    fn bury(&mut self) {
        self.bury_log();
        self.absent.get_or_insert_with(Instant::now);
        self.bridge = None;
    }

    fn bury_log(&mut self) {
        if let Some(bridge) = &self.bridge {
            self.told.push_str(&bridge.log());
            self.note("this bridge ends");
        }
    }
}

/// What is known of the run is kept for whoever has to find out why it failed.
impl Drop for World {
    fn drop(&mut self) {
        self.bury_log();
        for number in self.others.keys().copied().collect::<Vec<usize>>() {
            drop(self.take_other(number));
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
        fs::create_dir_all(&folder).ok();
        let text = format!("{}\n--- kafka\n{}", self.told, self.kafka.log());
        fs::write(folder.join(format!("{}.log", self.context.id)), text).ok();
    }
}

/// The life of a queue, and settings.
type Times = (Duration, &'static [(&'static str, &'static str)]);

fn times_in_proportion() -> Times {
    let settings = &[
        ("linxo.queue_lifetime", "\"15s\""),
        ("linxo.request_timeout", "\"3s\""),
        ("polling.keep_alive", "\"5s\""),
        ("polling.active", "\"100ms\""),
        ("polling.active_for", "\"3s\""),
        ("kafka.session_timeout", "\"6s\""),
        ("kafka.producer", "{ \"transaction.timeout.ms\" = \"5000\" }"),
        ("service.drain", "\"5s\""),
        ("service.grace", "\"15s\""),
    ];
    (Duration::from_secs(15), settings)
}

fn real_times() -> Times {
    let settings = &[
        ("linxo.queue_lifetime", "\"15m\""),
        ("linxo.request_timeout", "\"10s\""),
        ("polling.keep_alive", "\"5m\""),
        ("polling.active", "\"1s\""),
        ("polling.active_for", "\"2m\""),
        ("kafka.session_timeout", "\"45s\""),
    ];
    (Duration::from_secs(15 * 60), settings)
}

/// Whether an instance has nothing left to publish, and no queue to recover.
async fn is_idle(instance: &Bridge) -> bool {
    let figures = figures(instance).await;
    let is_nought = |name: &str| {
        figures.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|value| value.trim().parse() == Ok(0.0))
        })
    };
    [
        "linxo_bridge_journal_answers",
        "linxo_bridge_oldest_unpublished_timestamp_seconds",
        "linxo_bridge_queues{state=\"subscribing\"}",
        "linxo_bridge_queues{state=\"recovering\"}",
    ]
    .into_iter()
    .all(is_nought)
}

async fn figures(instance: &Bridge) -> String {
    instance.get("/metrics").await.1.as_str().unwrap_or_default().to_owned()
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
