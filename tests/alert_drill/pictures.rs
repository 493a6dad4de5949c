//! A load run under the eyes of Prometheus, every query of the dashboards asked, and the dashboards drawn, then once more
//! with Kafka away.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::sleep;

use crate::support::dashboards::{self, Query};
use crate::support::{free_ports, source_file};
use crate::watch::Watch;
use crate::world::World;

/// How long Kafka is away at the end: long enough for the alert that says so.
const OUTAGE: Duration = Duration::from_secs(240);
/// How long it takes to draw twice, at the most, in seconds.
const DRAWING: u64 = 90;

/// What a run of some minutes does not show, and why.
const EMPTY: &[(&str, &str)] = &[
    ("offset 1d", "there is no yesterday"),
    ("Alerts that fire", "nothing is that bad"),
    ("Verdict", "the run is not over"),
    ("Offences", "the run is not over, and should have none"),
    ("registry_requests", "no registry is configured"),
    ("kind=~\"revoked|lost\"", "no partition moves while bridges run"),
    ("start_time_seconds", "no bridge starts during the run"),
    ("bridges_struck", "bridges that are attached are not struck"),
    ("Fenced transactions", "nobody takes a partition away"),
    ("Rebalances", "no partition moves while bridges run"),
    ("oldest_unpublished", "between two looks everything was published"),
];

/// Draws the dashboards into a folder.
pub(crate) async fn draw(folder: &Path, seconds: u64) {
    let world = World::bare(false).await;
    let [port] = free_ports();
    let metrics = format!("127.0.0.1:{port}");
    let watch = Watch::start(&world.addresses(), Some(&metrics), false).await;
    // what the run does to the source: each thing that a panel shows
    let schedule = world.stage.folder.path().join("schedule");
    let third = seconds / 3;
    let faults = format!(
        "{}s missing_field 0.1 for 10s\n{}s server_error 0.2 for 20s\n{third}s cut 0.02 for 20s\n\
         {}s kill_queue 0.02 for 5s\n{}s throttle 0.2 for 15s\n{}s unauthorized 0.02 for 10s\n",
        third / 3,
        third / 2,
        third + 25,
        third + 40,
        third + 70,
    );
    std::fs::write(&schedule, faults).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_linxo-load"));
    run.arg("run").arg("--config").arg(world.stage.config());
    run.args(["--simulator", &format!("http://{}", world.stage.simulator.address())]);
    for bridge in world.bridges.iter().flatten() {
        run.args(["--bridge", &bridge.url]);
    }
    run.args(["--users", "500", "--events-per-second", "50", "--seed", "20261129"]);
    let lasts = seconds + OUTAGE.as_secs() + DRAWING;
    run.args(["--for", &format!("{lasts}s"), "--drain", "6m", "--metrics", &metrics]);
    run.arg("--faults").arg(&schedule);
    let mut run =
        run.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();

    sleep(Duration::from_secs(seconds * 9 / 10)).await;
    assert!(run.try_wait().unwrap().is_none(), "the run ended early");
    let mut faults = Vec::new();
    for query in dashboards::all().iter().flat_map(dashboards::Dashboard::queries) {
        let is_excused = |it: &Query| {
            EMPTY.iter().any(|(part, _)| it.promql.contains(part) || it.place.contains(part))
        };
        let window = format!("[{seconds}s:5s]");
        let within = format!("count_over_time(({}){window})", query.resolved());
        let data = watch.ask("query", &[("query", &within)]).await;
        if data["result"].as_array().unwrap().is_empty() && !is_excused(&query) {
            faults.push(format!("{} has no data: {}", query.place, query.promql));
        }
    }
    render(&watch, folder, "", seconds).await;
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));

    world.kafka.stop();
    sleep(OUTAGE).await;
    let firing = watch.firing().await;
    assert!(firing.contains("CommitsStopped"), "Kafka is away, and {firing:?} fires");
    render(&watch, folder, "-outage", seconds + OUTAGE.as_secs()).await;
    world.kafka.restart().await;
    let judged = run.wait().await.unwrap();
    assert!(judged.success(), "the run does not agree: {judged}");
}

/// Draws every dashboard, of as many seconds up to now.
async fn render(watch: &Watch, folder: &Path, suffix: &str, seconds: u64) {
    let minutes = (seconds / 60 + 1).to_string();
    let drawn = Command::new("node")
        .arg(source_file("deploy/grafana/render/render.mjs"))
        .args(["--prometheus", &watch.prometheus, "--scrape", "1", "--minutes", &minutes])
        .arg(format!("--suffix={suffix}"))
        .arg("--out")
        .arg(folder)
        .status()
        .await
        .unwrap();
    assert!(drawn.success(), "the dashboards cannot be drawn");
}
