//! What the metrics cost: those of one empty poll, and the text of a scrape.
//!
//! `cargo bench --bench metrics`. What a whole poll costs is `--bench polls`.

#![allow(missing_docs, reason = "made by criterion's macros")]
#![expect(clippy::expect_used, reason = "a run that fails says so by panic")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use linxo_kafka_bridge::ids::Timestamp;
use linxo_kafka_bridge::metrics::{Census, Metrics, PollOutcome};

/// As many as one instance may own.
const PARTITIONS: i32 = 64;

fn metrics(criterion: &mut Criterion) {
    let metrics = Metrics::new("0", "none").expect("the names are ours");
    criterion.bench_function("the metrics of one empty poll", |bencher| {
        bencher.iter(|| {
            let interval = Some(Duration::from_secs(300));
            metrics.poll_scheduled(black_box(Duration::from_millis(2)), black_box(interval));
            metrics.poll_finished(PollOutcome::EmptyList, black_box(Duration::from_micros(900)));
        });
    });
    let mut census = Census::default();
    for _ in 0..1_000_000 / PARTITIONS {
        census.count_live(Duration::from_secs(700), Timestamp::now());
    }
    for partition in 0..PARTITIONS {
        metrics.census(partition, Some(census));
    }
    println!("bytes of a scrape: {}", metrics.text().len());
    criterion.bench_function("the text of a scrape, 1,000,000 queues", |bencher| {
        bencher.iter(|| black_box(metrics.text()));
    });
}

criterion_group!(benches, metrics);
criterion_main!(benches);
