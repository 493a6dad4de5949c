//! A fleet without network: 100 instances, 50,000,000 queues, and the schedule and the budget as they
//! are in the bridge, under a clock that is moved by hand. Balance, headroom, what breaks first, and
//! the capacity formula of README.md beside what was counted.
//!
//! `cargo bench --bench fleet_simulation`, which takes 5 minutes of CPU and 340 MB; smaller and quicker:
//! `-- --queues 2000000 --instances 4`, and parts by name: `-- steady killed restart boot slow`. With
//! fewer than some 50,000 queues an instance, what it may ask in a step of 25 ms is so little that the
//! steps cost it some of its budget.
//!
//! What is real: `Wheel`, `Ready`, `Pace`, `Budget` with its classes, partitions by murmur2, phases by
//! the hash of the bridge. What is not: the source, which answers everything after 50 ms with
//! nothing; the loop of a worker, which `member.rs` has once more without its futures; Kafka, of which
//! only the times remain that a move takes. Instances share nothing but the source, which here has no
//! limit of its own, so each is simulated by itself.
//!
//! The budget reads tokio's clock, which is paused here and moved step by step; nothing in the budget
//! had to be opened for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a run that fails says so by panic"
)]

mod member;
mod scenes;
mod tally;
mod world;

use tokio::time::Instant;

use world::World;

/// What can be asked for.
struct Options {
    queues: u32,
    instances: usize,
    parts: Vec<String>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { queues: 50_000_000, instances: 100, parts: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || -> u32 {
                let text = arguments.next().unwrap_or_default().replace('_', "");
                text.parse().unwrap_or_else(|_| panic!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--queues" => options.queues = number(),
                "--instances" => options.instances = number() as usize,
                // what cargo adds
                "--bench" => {}
                _ => options.parts.push(argument),
            }
        }
        let is_known = |part: &String| scenes::PARTS.contains(&part.as_str());
        assert!(options.parts.iter().all(is_known), "the parts are {:?}", scenes::PARTS);
        options
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

fn main() {
    let options = Options::read();
    let began = Instant::now();
    let world = World::new(options.queues, options.instances);
    println!("{}", world.described());
    println!("made in {:.1?}\n", began.elapsed());
    scenes::limits(&world);
    for part in scenes::PARTS {
        if options.wants(part) {
            let began = Instant::now();
            scenes::play(part, &world);
            println!("({part}: {:.1?})\n", began.elapsed());
        }
    }
    println!("all in {:.1?}", began.elapsed());
}
