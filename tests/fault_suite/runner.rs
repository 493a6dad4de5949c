//! Runs the scenarios chosen and tells how each ended: those on one broker one after another, and then, or when all
//! are run beside them, those on three. They mostly wait, so that two at a time hardly disturb each other.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::Arguments;
use crate::clusters::Clusters;
use crate::scenario::{Context, Scenario};
use crate::scenarios::{self, Elsewhere};

/// How much longer real times may take.
const LONG: u32 = 60;
const PAIRS: usize = 3;

/// How a scenario ended.
struct Ended {
    scenario: Scenario,
    seed: u64,
    took: Duration,
    objection: Option<String>,
}

/// Runs what the arguments ask for; whether all went as it should.
pub async fn run(arguments: &Arguments) -> bool {
    let chosen = chosen(arguments);
    if arguments.list {
        chosen.iter().for_each(|scenario| println!("{} {}: test", scenario.id, scenario.name));
        return true;
    }
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let began = Instant::now();
    println!("\nrunning {} faults, seed {seed}", chosen.len());
    let (on_one, on_three) = chosen.into_iter().partition(|scenario| scenario.needs.brokers == 1);
    let all = Mutex::new(Vec::new());
    if arguments.all {
        tokio::join!(
            run_lane(on_one, seed, arguments, &all),
            run_lane(on_three, seed, arguments, &all)
        );
    } else {
        run_lane(on_one, seed, arguments, &all).await;
        run_lane(on_three, seed, arguments, &all).await;
    }
    let all = all.into_inner().unwrap();
    let failed = all.iter().filter(|ended| ended.objection.is_some()).count();
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, all.len() - failed);
    let took = began.elapsed().as_secs_f64();
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {} filtered out; finished in {took:.2}s\n",
        scenarios::all().len() - all.len()
    );
    if failed > 0 {
        println!("the same once more: --seed {seed}; logs are in {}", env!("CARGO_TARGET_TMPDIR"));
    }
    failed == 0
}

/// Runs scenarios one after another.
async fn run_lane(
    scenarios: Vec<Scenario>,
    seed: u64,
    arguments: &Arguments,
    all: &Mutex<Vec<Ended>>,
) {
    let mut clusters = Clusters::default();
    for scenario in scenarios {
        let ended = run_one(scenario, seed, arguments, &mut clusters).await;
        let word = if ended.objection.is_none() { "ok" } else { "FAILED" };
        let (id, name, took) = (ended.scenario.id, ended.scenario.name, ended.took.as_secs_f64());
        let control = control_of(&ended.scenario);
        let objection = ended.objection.iter().map(|objection| format!("\n{objection}\n"));
        let objection: String = objection.collect();
        println!("fault {id} {name}{control} ... {word} ({took:.1} s){objection}");
        let mut all = all.lock().unwrap();
        all.push(ended);
        if let Some(path) = &arguments.table {
            write_table(path, &mut all);
        }
    }
}

/// In the order of the table, those that need brokers of their own last.
fn chosen(arguments: &Arguments) -> Vec<Scenario> {
    let is_part = |scenario: &Scenario| {
        if arguments.long {
            scenario.is_long
        } else {
            arguments.all
                || !arguments.names.is_empty()
                || arguments.pairs.is_some()
                || scenario.is_fast
        }
    };
    let is_named = |scenario: &Scenario| {
        let names = &arguments.names;
        let is_wanted = |name: &String| {
            scenario.id == name || (name.len() > 3 && scenario.name.contains(&**name))
        };
        let pairs = [scenarios::PAIRS, scenarios::PAIRS_OF_THREE];
        let is_pairs = arguments.pairs.is_some() && pairs.contains(&scenario.id);
        is_pairs || names.iter().any(is_wanted) || (names.is_empty() && arguments.pairs.is_none())
    };
    let mut chosen: Vec<Scenario> =
        scenarios::all().into_iter().filter(|one| is_part(one) && is_named(one)).collect();
    chosen.sort_by_key(|scenario| scenario.needs.is_own);
    chosen
}

async fn run_one(
    scenario: Scenario,
    seed: u64,
    arguments: &Arguments,
    clusters: &mut Clusters,
) -> Ended {
    let kafka = clusters.give(scenario.needs).await;
    let sabotage = scenario.guard.map_or_else(String::new, |(guard, _)| format!("off:{guard}"));
    let (is_long, pairs) = (arguments.long, arguments.pairs.unwrap_or(PAIRS));
    let context = Context { id: scenario.id, seed, is_long, kafka, sabotage, pairs };
    let limit = if is_long { scenario.limit * LONG } else { scenario.limit };
    let began = Instant::now();
    let mut running = tokio::spawn((scenario.run)(context));
    let (objection, is_fit) = match timeout(limit, &mut running).await {
        Ok(Ok(verdict)) => (scenario.objection(&verdict), true),
        Ok(Err(panicked)) => (Some(words(panicked)), false),
        Err(_) => {
            running.abort();
            // gone before the next one begins, its bridge with it
            timeout(limit, running).await.ok();
            (Some(format!("not over after {limit:?}")), false)
        }
    };
    clusters.take_back(kafka, scenario.needs, is_fit);
    Ended { scenario, seed, took: began.elapsed(), objection }
}

/// What a scenario panicked with; where is printed already.
fn words(panicked: tokio::task::JoinError) -> String {
    match panicked.try_into_panic() {
        Ok(words) => match (words.downcast_ref::<String>(), words.downcast_ref::<&str>()) {
            (Some(words), _) => words.clone(),
            (_, Some(words)) => (*words).to_owned(),
            _ => "it panicked without words".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

fn control_of(scenario: &Scenario) -> String {
    scenario.guard.map_or_else(String::new, |(guard, rule)| {
        format!(", without {guard}: finds {}", rule.as_str())
    })
}

/// The table of what has ended so far: a run that is cut short has told something.
fn write_table(path: &Path, all: &mut [Ended]) {
    let order: Vec<&str> = scenarios::all().iter().map(|scenario| scenario.id).collect();
    all.sort_by_key(|ended| order.iter().position(|id| *id == ended.scenario.id));
    let mut text = String::from("| fault | | seed | verdict | seconds |\n|---|---|---|---|---|\n");
    for Ended { scenario, seed, took, objection } in &*all {
        let verdict = match (objection, scenario.guard) {
            (Some(_), _) => "**failed**",
            (None, None) => "agrees",
            (None, Some(_)) => "fails as it should",
        };
        let (id, name, seconds) = (scenario.id, scenario.name, took.as_secs());
        let control = control_of(scenario);
        writeln!(text, "| {id} | {name}{control} | {seed} | {verdict} | {seconds} |").unwrap();
    }
    for Elsewhere { id, name, test } in scenarios::ELSEWHERE {
        writeln!(text, "| {id} | {name} | | `cargo test --test {test}` | |").unwrap();
    }
    std::fs::write(path, text).unwrap();
}
