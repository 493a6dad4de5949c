//! Three instances under load that restart one by one, of which one leaves then for a while: the least headroom of any
//! queue, second by second, as a table and as a picture.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plotters::prelude::*;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::ground::{KEEP_ALIVE, Tokens, live, world};
use crate::support::{Bridge, Kafka, Stage, http};

const INSTANCES: usize = 3;
const LIFE: Duration = Duration::from_secs(900);
const EVENTS_PER_SECOND: u32 = 200;
const BETWEEN: Duration = Duration::from_secs(40);

/// The least headroom of each instance's queues, in seconds; none while it asks nobody.
struct Sample {
    at: f64,
    headroom: [Option<f64>; INSTANCES],
}

/// Looks at every instance each second.
struct Watch {
    urls: Arc<Mutex<[Option<String>; INSTANCES]>>,
    samples: Arc<Mutex<Vec<Sample>>>,
    marks: Vec<(f64, String)>,
    began: Instant,
    looking: JoinHandle<()>,
}

impl Watch {
    fn start() -> Self {
        let urls: Arc<Mutex<[Option<String>; INSTANCES]>> = Arc::default();
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let (began, looked_at, seen) = (Instant::now(), Arc::clone(&urls), Arc::clone(&samples));
        let looking = tokio::spawn(async move {
            let mut tick = interval(Duration::from_secs(1));
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                let urls = looked_at.lock().unwrap().clone();
                let at = began.elapsed().as_secs_f64();
                let mut headroom = [None; INSTANCES];
                for (place, url) in urls.iter().enumerate() {
                    if let Some(url) = url {
                        headroom[place] = least_headroom(url).await;
                    }
                }
                seen.lock().unwrap().push(Sample { at, headroom });
            }
        });
        Self { urls, samples, marks: Vec::new(), began, looking }
    }

    fn look_at(&mut self, instance: usize, bridge: Option<&Bridge>) {
        self.urls.lock().unwrap()[instance] = bridge.map(|bridge| bridge.url.clone());
    }

    fn mark(&mut self, what: String) {
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:>6.1} s: {what}");
        self.marks.push((at, what));
    }
}

/// What an instance says of its queue that was left alone for longest.
async fn least_headroom(url: &str) -> Option<f64> {
    let text = http().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
    let oldest = text.lines().find_map(|line| {
        line.strip_prefix("linxo_bridge_oldest_poll_timestamp_seconds ")?.parse::<f64>().ok()
    })?;
    let now = linxo_kafka_bridge::ids::Timestamp::now().0 as f64 / 1e3;
    (oldest > 0.0).then_some(LIFE.as_secs_f64() - (now - oldest))
}

/// Three instances, restarted in turn; then one leaves for good, and comes back.
pub(super) async fn run(kafka: &'static Kafka, users: usize) {
    let (mut stage, mut source) = world(kafka, "rolling", users, Tokens::OfClient).await;
    let mut watch = Watch::start();
    let mut instances = Vec::new();
    for number in 0..INSTANCES {
        let bridge = launch(&mut stage, number).await;
        watch.look_at(number, Some(&bridge));
        instances.push(Some(bridge));
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while owned(&instances).await < users as f64 {
        assert!(Instant::now() < deadline, "not all live");
        sleep(Duration::from_millis(500)).await;
    }
    let url = format!("{}/control/traffic", source.process.base);
    let rate = json!({"events_per_second": EVENTS_PER_SECOND});
    assert!(http().put(&url).json(&rate).send().await.unwrap().status().is_success());
    // a round, so that everybody is in phase
    sleep(KEEP_ALIVE).await;
    for (number, instance) in instances.iter_mut().enumerate() {
        watch.mark(format!("{number} restarts"));
        watch.look_at(number, None);
        assert!(instance.take().unwrap().stop().await.success());
        let bridge = launch(&mut stage, number).await;
        bridge.ready().await;
        watch.look_at(number, Some(&bridge));
        *instance = Some(bridge);
        sleep(BETWEEN).await;
    }
    watch.mark("2 leaves".to_owned());
    watch.look_at(2, None);
    assert!(instances[2].take().unwrap().stop().await.success());
    sleep(3 * BETWEEN).await;
    watch.mark("2 joins".to_owned());
    let bridge = launch(&mut stage, 2).await;
    watch.look_at(2, Some(&bridge));
    instances[2] = Some(bridge);
    sleep(3 * BETWEEN).await;
    watch.looking.abort();
    let stats = source.stats().await;
    tell(&watch, &stats, users);
    assert!(http().delete(&url).send().await.unwrap().status().is_success());
    for bridge in instances.into_iter().flatten() {
        assert!(bridge.stop().await.success());
    }
    source.process.child.kill().await.unwrap();
}

async fn launch(stage: &mut Stage, number: usize) -> Bridge {
    let journal = stage.folder.path().join(format!("journal-{number}"));
    stage.set("journal.directory", &format!("{journal:?}"));
    stage.set("kafka.instance_id", &format!("\"bridge-{number}\""));
    stage.start().await
}

async fn owned(instances: &[Option<Bridge>]) -> f64 {
    let mut sum = 0.0;
    for bridge in instances.iter().flatten() {
        sum += live(bridge).await;
    }
    sum
}

fn tell(watch: &Watch, stats: &Value, users: usize) {
    let samples = watch.samples.lock().unwrap();
    let least = samples.iter().flat_map(|one| one.headroom).flatten().fold(f64::MAX, f64::min);
    println!(
        "{users} queues, {EVENTS_PER_SECOND} events a second: least headroom {least:.1} s of {LIFE:?}; longest pause \
         of any queue {:.1} s; {} deaths",
        stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        stats["deaths"]
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/headroom.svg");
    fs::write(&path, picture(&samples, &watch.marks)).unwrap();
    println!("drawn in target/headroom.svg");
}

/// A line for each instance, and a mark for what was done to one.
fn picture(samples: &[Sample], marks: &[(f64, String)]) -> String {
    let mut drawn = String::new();
    {
        let root = SVGBackend::with_string(&mut drawn, (900, 360)).into_drawing_area();
        root.fill(&WHITE).unwrap();
        let end = samples.last().map_or(1.0, |one| one.at) / 60.0;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..end, 0.0..15.0)
            .unwrap();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("minutes")
            .y_desc("least headroom of any queue, minutes")
            .y_labels(6)
            .light_line_style(TRANSPARENT)
            .draw()
            .unwrap();
        for (at, what) in marks {
            let at = at / 60.0;
            let line = PathElement::new([(at, 0.0), (at, 15.0)], BLACK.mix(0.3));
            chart.draw_series([line]).unwrap();
            let text = Text::new(what.clone(), (at, 1.0), ("sans-serif", 12).into_font());
            chart.draw_series([text]).unwrap();
        }
        let colours = [RGBColor(31, 119, 180), RGBColor(214, 96, 20), RGBColor(44, 140, 60)];
        for (number, colour) in colours.into_iter().enumerate() {
            // a line ends where the instance does
            let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
            for sample in samples {
                match sample.headroom[number] {
                    Some(headroom) => {
                        pieces.last_mut().unwrap().push((sample.at / 60.0, headroom / 60.0));
                    }
                    None => pieces.push(Vec::new()),
                }
            }
            for (place, piece) in pieces.into_iter().filter(|piece| !piece.is_empty()).enumerate() {
                let series =
                    chart.draw_series(LineSeries::new(piece, colour.stroke_width(2))).unwrap();
                if place == 0 {
                    series.label(format!("instance {number}")).legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                    });
                }
            }
        }
        chart.configure_series_labels().border_style(BLACK.mix(0.3)).draw().unwrap();
        root.present().unwrap();
    }
    drawn
}
