//! What happens to the fleet, and the tables of what came of it.
//!
//! Knows nothing of: how an instance works.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;

use super::member::{Member, START, asked_before};
use super::tally::Tally;
use super::world::{PACE, PARTITIONS, World};

pub(super) const PARTS: [&str; 5] = ["steady", "killed", "restart", "boot", "slow"];

/// The factor that is advised: for it every instance is simulated. They do not notice each other, so
/// some of them, the fullest and the emptiest among them, are enough for the rest.
const USUAL: f64 = 1.2;
const SOME: usize = 10;
/// The budget, as a multiple of what keeping alive takes.
const FACTORS: [f64; 6] = [2.0, 1.2, 1.05, 1.0, 0.95, 0.8];
const MAX_IN_FLIGHT: usize = 256;
/// From asking to the answer, in milliseconds.
const LATENCY: u32 = 50;
const SLOW: u32 = 200;
const KEEP_ALIVE: u32 = 300_000;
const LIFE: u32 = 900_000;

/// The group notices a kill after the session timeout.
const SESSION_TIMEOUT: u32 = 45_000;
/// A partition is read to its end, and what the journal held is published.
const TAKE_OVER: u32 = 3_000;
/// How old the mark may be that says until when an instance asked in turn.
const MARK: u32 = 10_000;
/// Stop, start, and reading 500,000 queues.
const RESTART: u32 = 30_000;
/// How long the whole fleet was away before the boot: every queue has less than 5 min left.
const AWAY: u32 = 600_000;

/// As measured (README.md, figures).
const CPU_OF_A_POLL: f64 = 32.0e-6;
const BYTES_OF_A_QUEUE: f64 = 1_240.0;
const BYTES_WITHOUT_QUEUES: f64 = 37.0e6;
/// What an instance has, for the question what breaks first.
const MEMORY: f64 = 2.0e9;

pub(super) fn play(part: &str, world: &World) {
    match part {
        "steady" => steady(world),
        "killed" => killed(world),
        "restart" => restart(world),
        "boot" => boot(world),
        _ => slow(world),
    }
}

/// Runs a scene of one instance under a clock of its own.
fn under_a_clock<T>(scene: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(scene)
}

/// An instance's share of a budget, in requests a second.
fn share(world: &World, factor: f64, partitions: usize) -> f64 {
    world.required() * factor * partitions as f64 / PARTITIONS as f64
}

async fn member(world: &World, instance: usize, factor: f64, latency: u32) -> Member {
    let budget = share(world, factor, world.owned_by(instance).len());
    Member::new(budget, MAX_IN_FLIGHT, latency).await
}

fn load_all(member: &mut Member, world: &World, instance: usize, asked: u32) {
    for partition in world.owned_by(instance) {
        member.load(&world.partitions[partition], asked, asked);
    }
}

/// Up to which size of an instance each of its means lasts.
pub(super) fn limits(world: &World) {
    let queues = world.queues_of(world.some(2)[1]) as f64;
    let interval = PACE.keep_alive.as_secs_f64();
    let rate = queues / interval;
    println!(
        "the fullest instance at keep-alive cadence: {queues} queues, {rate:.0} questions a second"
    );
    println!("| what | is used | lasts for so many queues |");
    println!("|---|---|---|");
    let in_flight = |latency: u32| {
        let seconds = f64::from(latency) / 1000.0;
        (rate * seconds, MAX_IN_FLIGHT as f64 / seconds * interval)
    };
    for latency in [LATENCY, SLOW] {
        let (used, most) = in_flight(latency);
        println!(
            "| {MAX_IN_FLIGHT} in flight, answers after {latency} ms | {used:.0} | {most:.0} |"
        );
    }
    let cpu = rate * CPU_OF_A_POLL;
    let most = interval / CPU_OF_A_POLL;
    println!("| one core, 32 us a question | {:.1} % | {most:.0} |", 100.0 * cpu);
    let memory = BYTES_WITHOUT_QUEUES + BYTES_OF_A_QUEUE * queues;
    let most = (MEMORY - BYTES_WITHOUT_QUEUES) / BYTES_OF_A_QUEUE;
    println!(
        "| {:.0} GB, 37 MB and 1,240 bytes a queue | {:.0} MB | {most:.0} |",
        MEMORY / 1e9,
        memory / 1e6
    );
    println!("| the budget | - | what is configured; see below |\n");
}

/// The instances that are simulated with this budget.
fn shown(world: &World, factor: f64) -> Vec<usize> {
    world.some(if factor == USUAL { world.instances } else { SOME.min(world.instances) })
}

fn head(title: &str) {
    println!("{title}");
    println!(
        "| budget / required | asked a second, by instance | headroom p50, p1, least, in s | most waiting | \
         most in flight | deaths |"
    );
    println!("|---|---|---|---|---|---|");
}

fn row(factor: f64, seconds: f64, tallies: &[Tally]) {
    let rates: Vec<f64> = tallies.iter().map(|tally| tally.asked as f64 / seconds).collect();
    let all = Tally::sum(tallies);
    println!(
        "| {factor} | {:.0} to {:.0} | {}, {}, {:.1} | {} | {} | {} |",
        rates.iter().copied().fold(f64::MAX, f64::min),
        rates.iter().copied().fold(0.0, f64::max),
        all.headroom(0.5),
        all.headroom(0.01),
        all.least as f64 / 1000.0,
        all.most_waiting,
        all.most_in_flight,
        all.deaths
    );
}

/// Nothing happens, for two intervals; with too little for three.
fn steady(world: &World) {
    head(&format!("steady, every instance at {USUAL}, else {SOME} of them:"));
    for factor in FACTORS {
        let millis = if factor < 1.0 { 3 * KEEP_ALIVE } else { 2 * KEEP_ALIVE };
        let tallies = world.each(&shown(world, factor), |instance| {
            quiet(world, instance, factor, LATENCY, millis)
        });
        row(factor, f64::from(millis) / 1000.0, &tallies);
    }
}

fn quiet(world: &World, instance: usize, factor: f64, latency: u32, millis: u32) -> Tally {
    under_a_clock(async {
        let mut member = member(world, instance, factor, latency).await;
        load_all(&mut member, world, instance, START);
        member.run(millis).await;
        member.end()
    })
}

/// A source that takes four times as long: too few questions can be under way.
fn slow(world: &World) {
    head(&format!("answers after {SLOW} ms, {MAX_IN_FLIGHT} in flight, four instances:"));
    let millis = 4 * KEEP_ALIVE;
    let some = world.some(4);
    let tallies = world.each(&some, |instance| quiet(world, instance, 2.0, SLOW, millis));
    row(2.0, f64::from(millis) / 1000.0, &tallies);
}

/// One instance is killed; each of its partitions goes to another of those that have fewest.
fn killed(world: &World) {
    let moved = world.owned_by(0);
    let mut survivors: Vec<usize> = (1..world.instances).collect();
    survivors.sort_by_key(|instance| world.owned_by(*instance).len());
    let gains = |instance: usize| -> Vec<usize> {
        let place = survivors.iter().position(|survivor| *survivor == instance).unwrap();
        moved.iter().copied().skip(place).step_by(survivors.len()).collect()
    };
    let gainers: Vec<usize> =
        survivors.iter().copied().filter(|survivor| !gains(*survivor).is_empty()).collect();
    println!(
        "one instance killed: {} partitions go to {} of the {} others, {} s after the kill",
        moved.len(),
        gainers.len(),
        survivors.len(),
        (SESSION_TIMEOUT + TAKE_OVER) / 1000
    );
    println!(
        "| budget / required | overdue then, by instance | the last of them asked, s after the kill | by \
         the formula | nobody is late any more, by the formula | headroom p1, least, in s | deaths |"
    );
    println!("|---|---|---|---|---|---|---|");
    for factor in [2.0, 1.2, 1.05, 1.0] {
        let came = world.each(&gainers, |instance| {
            under_a_clock(async {
                let mut member = member(world, instance, factor, LATENCY).await;
                load_all(&mut member, world, instance, START);
                member.run(KEEP_ALIVE + SESSION_TIMEOUT + TAKE_OVER).await;
                let kill = START + KEEP_ALIVE;
                let gained = gains(instance);
                let owned = world.owned_by(instance).len() + gained.len();
                member.limit(share(world, factor, owned));
                for partition in &gained {
                    member.load(&world.partitions[*partition], kill, kill - MARK);
                }
                let overdue = member.overdue();
                member.run(KEEP_ALIVE + SESSION_TIMEOUT).await;
                // those that are overdue are ahead of all that come due from now on
                let budget = share(world, factor, owned);
                let sizes = gained.iter().map(|partition| world.partitions[*partition].len());
                let queues = (world.queues_of(instance) + sizes.sum::<usize>()) as f64;
                let spare = (budget - queues / PACE.keep_alive.as_secs_f64()).max(0.0);
                let foretold = [overdue as f64 / budget, overdue as f64 / spare];
                (overdue, foretold, member.overdue(), member.end())
            })
        });
        let overdue: Vec<usize> = came.iter().map(|(overdue, ..)| *overdue).collect();
        let after = f64::from(SESSION_TIMEOUT + TAKE_OVER) / 1000.0;
        let foretold = |place: usize| {
            let most = came.iter().map(|(_, foretold, ..)| foretold[place]).fold(0.0, f64::max);
            if most.is_finite() { format!("{:.1}", after + most) } else { "never".to_owned() }
        };
        let left: usize = came.iter().map(|(_, _, left, _)| left).sum();
        assert_eq!(left, 0, "somebody was never asked");
        let all = Tally::sum(came.iter().map(|(.., tally)| tally));
        println!(
            "| {factor} | {} to {} | {:.1} | {} | {} | {}, {:.1} | {} |",
            overdue.iter().min().unwrap(),
            overdue.iter().max().unwrap(),
            after + f64::from(all.caught_up) / 1000.0,
            foretold(0),
            foretold(1),
            all.headroom(0.01),
            all.least as f64 / 1000.0,
            all.deaths
        );
    }
}

/// Every instance is stopped and started again, one after another; its partitions wait for it.
fn restart(world: &World) {
    println!(
        "each instance is away for {} s, one after another, and keeps its partitions",
        RESTART / 1000
    );
    println!(
        "| budget / required | instances | the last overdue one asked, s after the return | headroom p1, \
         least, in s | deaths |"
    );
    println!("|---|---|---|---|---|");
    for factor in [2.0, 1.2, 1.05, 1.0, 0.95] {
        let instances = shown(world, factor);
        let tallies = world.each(&instances, |instance| {
            under_a_clock(async {
                let mut member = member(world, instance, factor, LATENCY).await;
                load_all(&mut member, world, instance, START);
                member.run(RESTART).await;
                member.restart(RESTART).await;
                load_all(&mut member, world, instance, START + RESTART);
                member.run(KEEP_ALIVE + RESTART).await;
                member.end()
            })
        });
        let all = Tally::sum(&tallies);
        println!(
            "| {factor} | {} | {:.1} | {}, {:.1} | {} |",
            instances.len(),
            f64::from(all.caught_up) / 1000.0,
            all.headroom(0.01),
            all.least as f64 / 1000.0,
            all.deaths
        );
    }
}

/// The whole fleet comes back when every queue is near its death.
fn boot(world: &World) {
    println!(
        "boot of the whole fleet after {} min: every queue has less than {} min left",
        AWAY / 60_000,
        (LIFE - AWAY) / 60_000
    );
    println!(
        "| budget / required | queues | died | could not be saved at that budget | died in vain |"
    );
    println!("|---|---|---|---|---|");
    for factor in FACTORS {
        let instances = shown(world, factor);
        let came = world.each(&instances, |instance| {
            under_a_clock(async {
                let mut member = member(world, instance, factor, LATENCY).await;
                load_all(&mut member, world, instance, START - AWAY);
                // until the last is asked, the dead too
                for _ in 0..10 {
                    member.run(LIFE - AWAY).await;
                    if member.overdue() == 0 {
                        break;
                    }
                }
                let budget = share(world, factor, world.owned_by(instance).len());
                (unsavable(world, instance, budget), member.end())
            })
        });
        let died: u64 = came.iter().map(|(_, tally)| tally.deaths).sum();
        let lost: u64 = came.iter().map(|(lost, _)| lost).sum();
        let queues: usize = instances.iter().map(|instance| world.queues_of(*instance)).sum();
        println!("| {factor} | {queues} | {died} | {lost} | {} |", died as i64 - lost as i64);
    }
}

/// How many queues of an instance must die at a boot whatever is done: of tasks that take the same
/// time each, most are done in time when the one with the nearest end is done first, and those that
/// cannot be in time are left out.
fn unsavable(world: &World, instance: usize, budget: f64) -> u64 {
    let owned = world.owned_by(instance);
    let phases = owned.iter().flat_map(|partition| &world.partitions[*partition]);
    let mut left: Vec<u32> = phases
        .map(|phase| (asked_before(*phase, START - AWAY) + LIFE).saturating_sub(START))
        .collect();
    left.sort_unstable();
    let mut saved = 0.0;
    for left in &left {
        // the budget lets a tenth of a second's worth pass at once
        let turn = Duration::from_secs_f64(((saved + 1.0) / budget - 0.1).max(0.0));
        if turn < Duration::from_millis(u64::from(*left)) {
            saved += 1.0;
        }
    }
    left.len() as u64 - saved as u64
}
