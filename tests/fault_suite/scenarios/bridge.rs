//! The bridge itself: killed at every step, frozen, moved about, without disk, descriptors, tokens or room: B1 to B13.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use linxo_kafka_bridge::oracle::{Rule, Verdict};
use linxo_kafka_bridge::simulator::RequestKind::{Ask, Token};
use linxo_kafka_bridge::simulator::{Fault, Options, Order, Revocation};
use rand::Rng;

use crate::faults::CRASH_POINTS;
use crate::scenario::{Context, ONE, Scenario, THREE};
use crate::support::proxy::Way;
use crate::support::{Bridge, Decoded};
use crate::world::{World, now};

/// Longer than the session of the suite.
const PAST_SESSION: Duration = Duration::from_secs(9);

pub const ALL: &[Scenario] = &[
    Scenario::new("B1", "the bridge is killed at each step, from question to commit", ONE, |c| {
        Box::pin(every_step(c))
    })
    .fast(),
    Scenario::new("B1p-", "the bridge is killed after its commits", ONE, |c| {
        Box::pin(after_commits(c))
    })
    .without("position", Rule::Twice),
    Scenario::new("B1b", "the bridge is killed while answers come and Kafka does not", ONE, |c| {
        Box::pin(killed_with_answers(c))
    }),
    Scenario::new("B1j-", "the bridge is killed while answers come and Kafka does not", ONE, |c| {
        Box::pin(killed_with_answers(c))
    })
    .without("journal", Rule::Lost),
    Scenario::new("B1q-", "the bridge is killed while answers come and Kafka does not", ONE, |c| {
        Box::pin(killed_with_answers(c))
    })
    .without("questions", Rule::Lost),
    Scenario::new("B1c", "the bridge is killed when its journal is empty", ONE, |c| {
        Box::pin(killed_empty(c))
    }),
    Scenario::new("B1r-", "the bridge is killed when its journal is empty", ONE, |c| {
        Box::pin(killed_empty(c))
    })
    .without("row-numbers", Rule::Lost),
    Scenario::new("B2", "the bridge is frozen for longer than its session", ONE, |c| {
        Box::pin(frozen(c))
    }),
    Scenario::new("B2b", "the same, and another one has taken over", ONE, |c| {
        Box::pin(late_owner(c))
    }),
    Scenario::new("B5", "another one comes and goes, and one is frozen now and then", ONE, |c| {
        Box::pin(rebalance_storm(c))
    }),
    Scenario::new("B6", "the wall clock jumps an hour ahead and behind", ONE, |c| {
        Box::pin(clock_jumps(c))
    }),
    Scenario::new("B7", "the journal's disk is full for 4 and 18 minutes", ONE, |c| {
        Box::pin(disk_full(c))
    }),
    Scenario::new("B7b", "the journal's disk can only be read at a start", ONE, |c| {
        Box::pin(read_only(c))
    }),
    Scenario::new("B7c", "the journal's file is damaged, with answers in it", ONE, |c| {
        Box::pin(damaged(c))
    }),
    Scenario::new("B8", "no descriptor is left, and connections break", THREE, |c| {
        Box::pin(no_descriptors(c))
    }),
    Scenario::new("B9", "the token endpoint is away for 6 and 20 minutes", ONE, |c| {
        Box::pin(no_tokens(c))
    }),
    Scenario::new("B10", "Kafka is away for longer than the keep-alive", ONE, |c| {
        Box::pin(back_pressure(c))
    }),
    Scenario::new("B10b", "Kafka is away for longer than the journal has room", ONE, |c| {
        Box::pin(no_room(c))
    }),
    Scenario::new("B11", "one connection has 10,000 events in some seconds", ONE, |c| {
        Box::pin(hot(c))
    }),
    Scenario::new("B12", "events that no reader likes", ONE, |c| Box::pin(poison(c))),
];

/// Each point a few passings after the start, in an order that follows from the seed.
async fn every_step(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    world.stop().await;
    for point in CRASH_POINTS {
        let passings = world.random.random_range(3..60);
        let order = format!("crash:{point}:{passings}");
        world.note(&order);
        world.stage.sabotage(&order);
        world.launch().await;
        world.crashed().await;
    }
    world.stage.sabotage("");
    world.start().await;
    world.pause(1).await;
    world.verdict().await
}

async fn after_commits(context: Context) -> Verdict {
    let off = context.sabotage.clone();
    let mut world = World::new(context, &[]).await;
    world.stop().await;
    for _ in 0..3 {
        world.stage.sabotage(&format!("{off},crash:after-commit:20"));
        world.launch().await;
        world.crashed().await;
    }
    world.stage.sabotage(&off);
    world.start().await;
    world.verdict().await
}

/// Rows that are not published, and bodies that have not come whole.
async fn killed_with_answers(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    for _ in 0..2 {
        let order = Order::share(0.3, Fault::Slow { over_ms: 1_500 }).on(Ask).with_events();
        world.stage.simulator.inflict(order).unwrap();
        world.kafka.pause();
        world.pause(2).await;
        world.kill().await;
        world.stage.simulator.heal();
        world.kafka.resume();
        world.start().await;
        world.pause(2).await;
    }
    world.verdict().await
}

/// A number that is used again counts as published before it is.
async fn killed_empty(context: Context) -> Verdict {
    let mut world = World::quiet(context, &[]).await;
    for user in world.users() {
        world.stage.simulator.push_events(&user, None, 20).unwrap();
    }
    // the mark that is written every 10 s has what is published removed, the last row with the second one
    tokio::time::sleep(Duration::from_secs(24)).await;
    world.kill().await;
    world.start().await;
    world.flow();
    world.pause(3).await;
    world.verdict().await
}

async fn frozen(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    for _ in 0..2 {
        world.freeze(PAST_SESSION).await;
        world.pause(3).await;
    }
    world.verdict().await
}

/// What the first one still holds when it comes back is no longer its to decide.
async fn late_owner(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    let second = second(&mut world).await;
    second.ready().await;
    world.pause(3).await;
    world.freeze(PAST_SESSION).await;
    world.pause(4).await;
    assert!(second.stop().await.success());
    world.pause(2).await;
    world.verdict().await
}

async fn rebalance_storm(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    for number in 0..4 {
        let second = second(&mut world).await;
        let millis = world.random.random_range(500..4_000);
        world.pause_for(Duration::from_millis(millis)).await;
        if number % 2 == 1 {
            world.freeze(Duration::from_secs(7)).await;
        }
        assert!(second.stop().await.success(), "{}", world.bridge().log());
        world.pause_for(Duration::from_millis(millis / 2)).await;
    }
    world.verdict().await
}

/// Another instance of the same group.
async fn second(world: &mut World) -> Bridge {
    let folder = |name: &str| format!("{:?}", world.stage.folder.path().join(name));
    let (own, other) = (folder("journal"), folder("journal-of-the-second"));
    world.stage.set("journal.directory", &other);
    world.stage.set("kafka.instance_id", "\"bridge-1\"");
    let second = world.stage.start().await;
    world.stage.set("journal.directory", &own);
    world.stage.unset("kafka.instance_id");
    second
}

/// The bridge sees another clock than everybody else; what waits inside librdkafka sees the real one.
async fn clock_jumps(context: Context) -> Verdict {
    let mut world = World::bare(context, &[]).await;
    let folder = world.stage.folder.path();
    let (library, ahead) = (folder.join("clock.so"), folder.join("ahead"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fault_suite/clock.c");
    let mut made = Command::new("cc");
    made.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    assert!(made.status().unwrap().success(), "cc does not compile {source}");
    // in place: it is mapped
    fs::write(&ahead, 0_i64.to_ne_bytes()).unwrap();
    let jump = |minutes: i64| {
        let mut file = fs::File::options().write(true).open(&ahead).unwrap();
        file.write_all(&(minutes * 60).to_ne_bytes()).unwrap();
    };
    let preload = format!("LD_PRELOAD={}", library.display());
    let clock = format!("CLOCK_AHEAD={}", ahead.display());
    world.stage.launch_through(&["env", &preload, &clock]);
    assert!(world.stage.run(&["topics", "create"]).await.status.success());
    world.start().await;
    world.subscribe().await;
    world.flow();
    for minutes in [60, -60, 0, 60] {
        world.pause(3).await;
        jump(minutes);
    }
    world.pause(3).await;
    // what is on disk and in the topics is of a time that has not come
    world.stop().await;
    jump(0);
    world.start().await;
    world.pause(3).await;
    world.afflict(Order::next(4, Fault::KillQueue), 3).await;
    let records = world.stage.read("linxo.events").await;
    let hour = i64::try_from(now()).unwrap() + 50 * 60 * 1_000;
    let is_ahead = |record: &Decoded| record.value["received_at"].as_i64() > Some(hour);
    assert!(records.iter().any(is_ahead), "the clock did not jump");
    world.verdict().await
}

async fn disk_full(context: Context) -> Verdict {
    let mut world = World::bare(context, &[]).await;
    let folder = journal(&world);
    let mount = "mount -t tmpfs -o size=32m tmpfs \"$0\" && exec \"$@\"";
    world.stage.launch_through(&["unshare", "-rm", "sh", "-c", mount, folder.to_str().unwrap()]);
    assert!(world.stage.run(&["topics", "create"]).await.status.success());
    world.start().await;
    world.subscribe().await;
    world.flow();
    world.pause(2).await;
    // as the bridge sees it
    let root = PathBuf::from(format!("/proc/{}/root", world.bridge().pid()));
    let filler = root.join(folder.strip_prefix("/").unwrap()).join("filler");
    for minutes in [4, 18] {
        fill(&filler);
        world.pause(minutes).await;
        let log = world.bridge().log();
        assert!(log.contains("the journal's disk is full"), "it says so:\n{log}");
        fs::remove_file(&filler).unwrap();
        // longer than the journal may take to try again
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    // what cannot be kept is not asked for
    world.rules.longest_pause = None;
    world.verdict().await
}

/// Until nothing more goes in.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

async fn read_only(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    world.kill().await;
    let folder = journal(&world);
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    world.stage.launch_through(&["unshare", "-rm", "sh", "-c", mount, folder.to_str().unwrap()]);
    let refused = world.stage.run(&["serve"]).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("journal.directory"), "{words}");
    world.stage.launch_through(&[]);
    world.start().await;
    world.pause(2).await;
    world.verdict().await
}

/// Rows behind the damage are lost, and nobody knows whose they were: every user has a gap.
async fn damaged(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    world.kafka.pause();
    world.pause(3).await;
    let from = now();
    world.kill().await;
    let path = journal(&world).join("rows.db");
    let rows = rusqlite::Connection::open(&path).unwrap();
    rows.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(rows);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    world.kafka.resume();
    world.start().await;
    let users = world.users();
    let is_told = |gap: &Decoded| gap.text("cause") == "INSTANCE_LOST";
    let all_told = |gaps: &[Decoded]| {
        let told: Vec<_> = gaps.iter().filter(|gap| is_told(gap)).collect();
        users.iter().all(|user| told.iter().any(|gap| gap.key == *user))
    };
    world.stage.until("linxo.gaps", all_told).await;
    world.excuse("rows were damaged", from, users.len() as u64);
    world.pause(2).await;
    world.verdict().await
}

async fn no_descriptors(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let pid = world.bridge().pid().to_string();
    let limit = |limit: &str| {
        let limit = format!("--nofile={limit}");
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(done.unwrap().success(), "prlimit (util-linux) does not reach it");
    };
    for minutes in [2, 5] {
        limit("8:");
        for broker in world.kafka.brokers() {
            broker.proxy().set(Way::Cut);
            broker.proxy().set(Way::Open);
        }
        world.pause(minutes).await;
        limit("1024:");
        world.pause(3).await;
    }
    world.verdict().await
}

async fn no_tokens(context: Context) -> Verdict {
    without_tokens(World::with(context, short_tokens(), &[]).await).await
}

/// Tokens that last for four minutes.
pub(super) fn short_tokens() -> Options {
    Options { token_lifetime: Duration::from_secs(4), ..Options::default() }
}

pub(super) async fn without_tokens(mut world: World) -> Verdict {
    world.afflict(Order::always(Fault::ServerError { status: 503 }).on(Token), 6).await;
    world.pause(3).await;
    assert_eq!(world.stage.simulator.ledger(None).deaths.len(), 0, "no queue dies of it");
    world.stage.simulator.revoke(&Revocation::Clients);
    world.afflict(Order::always(Fault::Vanish).on(Token), 20).await;
    world.pause(3).await;
    // without a token nobody is asked
    world.rules.longest_pause = None;
    world.verdict().await
}

/// The journal takes what comes meanwhile, and no queue notices.
async fn back_pressure(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for minutes in [7, 12] {
        world.kafka.stop();
        world.pause(minutes).await;
        world.kafka.restart().await;
        world.bridge().ready().await;
        world.pause(2).await;
    }
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "no queue dies of it");
    verdict
}

async fn no_room(context: Context) -> Verdict {
    let small = [
        ("linxo.max_answer", "\"512KiB\""),
        ("polling.max_in_flight_bytes", "\"1MiB\""),
        ("journal.max_bytes", "\"1MiB\""),
    ];
    let mut world = World::new(context, &small).await;
    world.kafka.stop();
    world.pause(30).await;
    world.kafka.restart().await;
    world.bridge().ready().await;
    world.pause(2).await;
    // what there is no room for is not asked for
    world.rules.longest_pause = None;
    let verdict = world.verdict().await;
    assert!(verdict.counts.deaths > 0, "there was room all the time: {:?}", verdict.counts);
    verdict
}

async fn hot(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let users = world.users();
    for _ in 0..50 {
        world.stage.simulator.push_events(&users[0], None, 200).unwrap();
        world.pause_for(Duration::from_millis(100)).await;
    }
    world.verdict().await
}

/// What the simulator can name; half a surrogate is in tests/broken_answers.rs.
async fn poison(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let users = world.users();
    let event = |id: &str, more: &str| format!(r#"{{"id":{id},"event_type":"X"{more}}}"#);
    let (long, longer) = ("x".repeat(10_000), "y".repeat(300_000));
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let elements = [
        event("\"\"", ""),
        event("\"a/b c\"", ""),
        event("\"nul \\u0000\"", ""),
        event("\"emoji \\ud83d\\ude00\"", ""),
        event("7", ""),
        event("\"twice\"", r#","id":"again""#),
        event(&format!("{long:?}"), ""),
        event("\"number\"", r#","n":[1e300,-0,18446744073709551616,1e-999]"#),
        event("\"key\"", &format!(r#","resource_type":"CONNECTION","resource":{{"id":"{long}"}}"#)),
        event("\"large\"", &format!(r#","text":"{longer}""#)),
        event("\"deep\"", &format!(r#","deep":{}"#, deep(100))),
        event("\"date\"", r#","creation_date":99999999999999999999"#),
        r#"{"id":"no type"}"#.to_owned(),
        "[[]]".to_owned(),
        "-1".to_owned(),
    ];
    for (number, element) in elements.iter().enumerate() {
        let user = &users[number % users.len()];
        world.stage.simulator.push(user, element).unwrap();
        world.pause_for(Duration::from_millis(200)).await;
    }
    world.pause(1).await;
    world.verdict().await
}

fn journal(world: &World) -> PathBuf {
    let folder = world.stage.folder.path().join("journal");
    fs::create_dir_all(&folder).unwrap();
    folder
}
