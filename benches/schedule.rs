//! What it costs to arm a queue again, with a million of them armed.
//!
//! `cargo bench --bench schedule`. Aim: 0.3 us, 16 bytes an entry (issue text of the first release).

#![allow(missing_docs, reason = "made by criterion's macros")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use linxo_kafka_bridge::schedule::Wheel;
use tokio::time::Instant;

const ENTRIES: u32 = 1_000_000;

/// A cheap sequence that looks random: where an entry is must not be where the last one was.
fn scattered(step: &mut u32) -> u32 {
    *step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *step
}

fn schedule(criterion: &mut Criterion) {
    println!("bytes per entry: {}", Wheel::bytes_per_entry());
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let mut step = 1;
    for index in 0..ENTRIES {
        let due = Duration::from_millis(u64::from(scattered(&mut step) % 300_000));
        wheel.arm(index, start + due);
    }
    criterion.bench_function("re-arm one of 1,000,000 entries", |bencher| {
        bencher.iter(|| {
            let index = scattered(&mut step) % ENTRIES;
            let due = Duration::from_millis(u64::from(scattered(&mut step) % 300_000));
            wheel.arm(black_box(index), start + due);
        });
    });
    let mut now = start;
    let mut due = Vec::new();
    criterion.bench_function(
        "turn one tick and arm what came, 1,000,000 at keep-alive",
        |bencher| {
            bencher.iter(|| {
                now += Duration::from_millis(16);
                wheel.turn(now, &mut due);
                for index in due.drain(..) {
                    wheel.arm(index, now + Duration::from_secs(300));
                }
            });
        },
    );
}

criterion_group!(benches, schedule);
criterion_main!(benches);
