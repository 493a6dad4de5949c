//! What is broken, which alert is expected, and the table of what came.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use linxo_kafka_bridge::simulator::{Expiry, Fault, Order, RequestKind};
use tokio::time::{Instant, sleep};

use crate::scale::SIXTH;
use crate::watch::Watch;
use crate::world::{LIFE, World};

const LOOK: Duration = Duration::from_millis(500);
/// How long an alert may take to fire, and to end when all is well again: those of 10 min that fire on for 25 take longest.
const PATIENCE: Duration = Duration::from_secs(400);
/// How long nothing may fire before anything is broken.
const QUIET: Duration = Duration::from_secs(40);

/// Events that had to wait are late, and more than the objective allows: that is told when they are published, and for as
/// long as the windows of these rules are. The objective itself, 60 s, is not a sixth here.
const LATE: &[&str] = &["LagBudgetBurnFast", "LagBudgetBurnSlow"];

type Act = for<'w> fn(&'w mut World) -> LocalBoxFuture<'w, ()>;

/// One thing that is broken.
struct Scene {
    name: &'static str,
    /// What fires first and is told.
    expected: &'static [&'static str],
    /// What may fire as a consequence, and is not told.
    follows: &'static [&'static str],
    break_it: Act,
    mend: Act,
}

fn nothing(_: &mut World) -> LocalBoxFuture<'_, ()> {
    async {}.boxed_local()
}

fn inflict(world: &World, order: Order) {
    world.stage.simulator.inflict(order).unwrap();
}

/// Requests of this kind are answered 503.
fn fail(world: &World, kind: RequestKind) {
    inflict(world, Order::always(Fault::ServerError { status: 503 }).on(kind));
}

fn heal(world: &mut World) -> LocalBoxFuture<'_, ()> {
    async { world.stage.simulator.heal() }.boxed_local()
}

fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "Kafka is away",
            expected: &["CommitsStopped"],
            follows: &["PublishingStalled"],
            break_it: |world| async { world.kafka.stop() }.boxed_local(),
            mend: |world| async { world.kafka.restart().await }.boxed_local(),
        },
        Scene {
            name: "Linxo answers 503",
            expected: &["SourceFailing"],
            follows: &["QueueNearExpiry"],
            break_it: |world| async { fail(world, RequestKind::Ask) }.boxed_local(),
            mend: heal,
        },
        Scene {
            name: "Linxo throttles a third of the questions",
            expected: &["SourceThrottles"],
            follows: &[],
            break_it: |world| {
                async {
                    inflict(
                        world,
                        Order::share(0.33, Fault::Throttle { retry_after: None })
                            .on(RequestKind::Ask),
                    )
                }
                .boxed_local()
            },
            mend: heal,
        },
        Scene {
            name: "the token endpoint answers 503",
            // whose token has ended is not asked
            expected: &["TokenEndpointAway", "QueueNearExpiry"],
            follows: &["SourceFailing", "TokenRefreshFailing"],
            break_it: |world| async { fail(world, RequestKind::Token) }.boxed_local(),
            mend: heal,
        },
        Scene {
            name: "the token of one user is refused",
            expected: &["UsersBlocked"],
            follows: &[],
            break_it: |world| {
                async {
                    inflict(
                        world,
                        Order::always(Fault::Unauthorized).of("user-01").on(RequestKind::Ask),
                    )
                }
                .boxed_local()
            },
            mend: heal,
        },
        Scene {
            name: "every token is refused",
            expected: &["UsersBlockedInBulk"],
            follows: &["UsersBlocked"],
            break_it: |world| {
                async { inflict(world, Order::always(Fault::Unauthorized).on(RequestKind::Ask)) }
                    .boxed_local()
            },
            mend: heal,
        },
        Scene {
            name: "an instance is killed, and comes back with its journal",
            expected: &["InstanceDown"],
            follows: &[],
            break_it: |world| world.kill(0).boxed_local(),
            mend: |world| world.start(0).boxed_local(),
        },
        Scene {
            name: "all instances are killed",
            expected: &["BridgeDown"],
            follows: &[],
            break_it: |world| {
                async {
                    world.kill(0).await;
                    world.kill(1).await;
                }
                .boxed_local()
            },
            mend: |world| {
                async {
                    world.start(0).await;
                    world.start(1).await;
                }
                .boxed_local()
            },
        },
        Scene {
            name: "a third of the queues is gone",
            expected: &["QueuesGoneInBulk"],
            follows: &["QueuesGone"],
            break_it: |world| {
                async {
                    let expiry = Expiry { share: 0.33, ..Expiry::default() };
                    world.stage.simulator.expire(&expiry).unwrap();
                }
                .boxed_local()
            },
            mend: nothing,
        },
        Scene {
            name: "Linxo is away for longer than a queue lives, and comes back",
            expected: &["SourceFailing", "QueueExpired"],
            follows: &["QueueNearExpiry"],
            break_it: |world| {
                async {
                    fail(world, RequestKind::Ask);
                    sleep(LIFE + Duration::from_secs(20)).await;
                    world.stage.simulator.heal();
                }
                .boxed_local()
            },
            mend: nothing,
        },
        Scene {
            name: "an instance is lost with its disk",
            expected: &["InstanceDown", "InstanceLost"],
            follows: &[],
            break_it: |world| {
                async {
                    world.kill(1).await;
                    world.lose_disk(1);
                }
                .boxed_local()
            },
            mend: |world| world.start(1).boxed_local(),
        },
        Scene {
            name: "the control topic is deleted",
            expected: &["CommitsStopped"],
            follows: &["PublishingStalled"],
            break_it: |world| {
                async { world.kafka.delete_topic(&world.stage.topic("linxo.subscriptions")).await }
                    .boxed_local()
            },
            mend: nothing,
        },
    ]
}

/// What came of a scene.
struct Came {
    /// The alerts that fired, each after so long.
    fired: BTreeMap<String, Duration>,
    told: BTreeMap<String, BTreeSet<String>>,
    faults: Vec<String>,
}

/// Plays the scenes; all of them, or those with one of these words in their name.
pub(crate) async fn run(names: &[String], table: Option<&Path>) {
    let is_wanted =
        |scene: &Scene| names.is_empty() || names.iter().any(|it| scene.name.contains(it.as_str()));
    let scenes: Vec<Scene> = scenes().into_iter().filter(is_wanted).collect();
    let mut world = World::busy().await;
    let watch = Watch::start(&world.addresses(), None, true).await;
    calm(&watch, QUIET).await;
    assert!(watch.is_alive(), "the dead man's switch was not told:\n{}", watch.log());
    println!("nothing fires while nothing is broken");
    watch.told();
    let mut lines = Vec::new();
    let mut faults = Vec::new();
    let last = scenes.len() - 1;
    for (number, scene) in scenes.iter().enumerate() {
        let came = play(scene, &mut world, &watch, number == last).await;
        let line = line(scene, &came);
        println!("{line}");
        lines.push(line);
        faults.extend(came.faults.into_iter().map(|fault| format!("{}: {fault}", scene.name)));
    }
    if let Some(path) = table {
        let head = "| what is broken | fires, after s | told |\n|---|---|---|\n";
        std::fs::write(path, format!("{head}{}\n", lines.join("\n"))).unwrap();
    }
    if !faults.is_empty() {
        for bridge in world.bridges.iter().flatten() {
            let log = bridge.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- log\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

async fn play(scene: &Scene, world: &mut World, watch: &Watch, is_last: bool) -> Came {
    let began = Instant::now();
    let mut came = Came { fired: BTreeMap::new(), told: BTreeMap::new(), faults: Vec::new() };
    (scene.break_it)(world).await;
    let is_told = |came: &Came, name: &str| came.told.values().any(|told| told.contains(name));
    loop {
        look(watch, began, &mut came).await;
        let is_there = |name: &&str| came.fired.contains_key(*name) && is_told(&came, name);
        if scene.expected.iter().all(is_there) {
            break;
        }
        if began.elapsed() > PATIENCE {
            came.faults.push(format!("{:?} did not fire, or was not told", scene.expected));
            break;
        }
        sleep(LOOK).await;
    }
    // what would be told beside it would be told by now
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        look(watch, began, &mut came).await;
        sleep(LOOK).await;
    }
    (scene.mend)(world).await;
    let mended = Instant::now();
    loop {
        if is_last {
            break;
        }
        look(watch, began, &mut came).await;
        let mut firing = watch.firing().await;
        firing.retain(|name| !LATE.contains(&name.as_str()));
        if firing.is_empty() {
            break;
        }
        if mended.elapsed() > PATIENCE {
            came.faults.push(format!("{firing:?} still fires though all is well"));
            break;
        }
        sleep(LOOK).await;
    }
    // of those an earlier scene may be the cause
    came.fired.retain(|name, _| !LATE.contains(&name.as_str()));
    for told in came.told.values_mut() {
        told.retain(|name| !LATE.contains(&name.as_str()));
    }
    came.told.retain(|_, told| !told.is_empty());
    for name in came.fired.keys() {
        if !scene.expected.iter().chain(scene.follows).any(|it| it == name) {
            came.faults.push(format!("{name} fired as well"));
        }
    }
    for (receiver, names) in &came.told {
        for name in names.iter().filter(|name| !scene.expected.contains(&name.as_str())) {
            came.faults.push(format!("{name} was told as well, as a {receiver}"));
        }
    }
    came
}

async fn look(watch: &Watch, began: Instant, came: &mut Came) {
    for name in watch.firing().await {
        came.fired.entry(name).or_insert_with(|| began.elapsed());
    }
    for (receiver, names) in watch.told() {
        came.told.entry(receiver).or_default().extend(names);
    }
}

/// Nothing fires for so long; what fires at first, as nothing is known yet, is waited for.
async fn calm(watch: &Watch, length: Duration) {
    let deadline = Instant::now() + PATIENCE;
    let mut since = Instant::now();
    while since.elapsed() < length {
        let firing = watch.firing().await;
        if !firing.is_empty() {
            since = Instant::now();
        }
        assert!(Instant::now() < deadline, "{firing:?} fires though nothing is broken");
        sleep(LOOK).await;
    }
}

fn line(scene: &Scene, came: &Came) -> String {
    let fired: Vec<String> = came
        .fired
        .iter()
        .map(|(name, after)| format!("{name}, {}", after.as_secs() * SIXTH))
        .collect();
    let told = came.told.iter().map(|(receiver, names)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("{receiver}: {}", names.join(", "))
    });
    let told: Vec<String> = told.collect();
    format!("| {} | {} | {} |", scene.name, fired.join("; "), told.join("; "))
}
