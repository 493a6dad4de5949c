//! Load and fault runs end with a verdict, and the verdict can fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::process::{Output, Stdio};
use std::time::Duration;

use linxo_kafka_bridge::simulator::Sync;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use support::{Stage, TOKEN, dashboards, free_ports, http, prometheus};
use tokio::process::Command;

/// How long a run of some seconds may take, all in all.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs the program to its end.
async fn load(stage: &Stage, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_linxo-load"));
    program.arg(command).arg("--config").arg(stage.config()).args(rest);
    program.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, program.output()).await.unwrap().unwrap()
}

/// The same with a report; asserts the exit code.
async fn reported(stage: &Stage, code: i32, arguments: &[&str]) -> (String, Value) {
    let path = stage.folder.path().join("report.json");
    let logs = stage.folder.path().join("logs");
    let (path, logs) = (path.to_str().unwrap(), logs.to_str().unwrap());
    let mut all = arguments.to_vec();
    all.extend(["--json", path]);
    if arguments[0] == "run" {
        all.extend(["--log-dir", logs]);
    }
    let output = load(stage, &all).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    (text, report)
}

fn text(output: &Output) -> String {
    let both = [&output.stderr[..], &output.stdout[..]].concat();
    String::from_utf8(both).unwrap()
}

#[tokio::test]
async fn a_run_without_faults_agrees_and_its_report_says_how_it_went() {
    let stage = Stage::bare("load-quiet", Default::default(), &[]).await;
    let run = ["run", "--make-topics", "--users", "40", "--events-per-second", "100"];
    let (text, report) =
        reported(&stage, 0, &[&run[..], &["--for", "4s", "--seed", "7"]].concat()).await;
    assert!(text.contains("seed 7\n") && text.contains("AGREES"), "{text}");
    assert_eq!(report["outcome"], "agrees");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["subscribed"]["users"], 40);
    let counts = &report["counts"];
    assert!(counts["handed_out"].as_u64().unwrap() >= 300, "{counts}");
    assert_eq!(counts["handed_out"], counts["published"]);
    assert_eq!(report["lag_ms"]["records"], counts["published"]);
    assert!(report["lag_ms"]["p50"].as_u64() <= report["lag_ms"]["p99"].as_u64());
    assert_eq!((&counts["gaps"], &counts["gaps_excused"]), (&0.into(), &0.into()));
    assert_eq!(report["faults"], Value::Array(Vec::new()));

    // the same topics again: what the run before left would be taken for invented
    let output = load(&stage, &["run", "--for", "1s"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(self::text(&output).contains("hold records of an earlier run"));
}

#[tokio::test]
async fn a_run_shows_its_numbers_to_prometheus_as_the_dashboard_names_them_and_waits_with_the_verdict()
 {
    let stage = Stage::bare("load-shown", Default::default(), &[]).await;
    let [port] = free_ports();
    let metrics = format!("127.0.0.1:{port}");
    let url = format!("http://{metrics}/metrics");
    let run = ["run", "--make-topics", "--users", "20", "--events-per-second", "50", "--for", "2s"];
    let arguments = [&run[..], &["--seed", "7", "--metrics", &metrics]].concat();
    let began = tokio::time::Instant::now();
    let watched = async {
        let mut phases = std::collections::BTreeSet::new();
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // not there yet, or there no longer
            let Ok(answer) = http().get(&url).send().await else { continue };
            assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
            let text = answer.text().await.unwrap();
            let phase = text
                .lines()
                .find(|line| line.starts_with("linxo_load_phase") && line.ends_with(" 1"));
            phases.insert(phase.unwrap().to_owned());
            if phase.unwrap().contains("judged") {
                return (text, phases);
            }
        }
    };
    let ((text, phases), (_, report)) = tokio::join!(watched, reported(&stage, 0, &arguments));
    assert!(began.elapsed() < Duration::from_secs(60), "a verdict that was read ends the run");
    assert!(phases.len() >= 4, "{phases:?}");
    let value = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse::<f64>().unwrap()
    };
    let counted = |name: &str| report["counts"][name].as_f64().unwrap();
    assert_eq!(value("linxo_load_users"), 20.0);
    assert_eq!(value("linxo_load_events_handed_out_total"), counted("handed_out"));
    assert_eq!(value("linxo_load_events_readable_total"), counted("published"));
    assert_eq!(value("linxo_load_lag_seconds_count"), counted("published"));
    assert_eq!(value("linxo_load_outcome{outcome=\"agrees\"}"), 1.0);
    assert_eq!(value("linxo_load_offences{rule=\"lost\"}"), 0.0);
    let (is_content, said) = prometheus::both()[1].promtool(&["check", "metrics"], &text);
    assert!(is_content && said.is_empty(), "{said}");

    let shown = dashboards::shown(&text);
    let mut named = std::collections::BTreeSet::new();
    for query in dashboards::all().iter().flat_map(dashboards::Dashboard::queries) {
        let unknown = dashboards::unknown(&query.place, &query.resolved(), &shown);
        let unknown: Vec<_> = unknown.iter().filter(|it| it.contains(" linxo_load_")).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        named.extend(dashboards::metrics_in(&query.resolved()).into_keys());
    }
    for name in shown.keys().filter(|name| name.starts_with("linxo_load_")) {
        assert!(named.contains(name), "{name} is on no dashboard");
    }
}

#[tokio::test]
async fn a_run_with_faults_of_the_source_and_restarts_agrees() {
    let settings = [
        ("linxo.request_timeout", "\"1s\""),
        ("linxo.queue_lifetime", "\"30s\""),
        ("polling.keep_alive", "\"5s\""),
        ("polling.active_for", "\"3s\""),
    ];
    let stage = Stage::with("load-faults", Default::default(), &settings).await;
    let schedule = stage.folder.path().join("schedule");
    let faults = "\
        0s html 0.2 for 1s\n\
        0s cut 0.2 for 2s\n\
        1s server_error 0.5 for 1s\n\
        1s kill_queue 0.1 for 2s\n\
        3s html 0.2 for 2s\n\
        4s kill for 1s\n\
        6s missing_field 0.5 for 1s\n\
        6s hang 0.1 for 1s\n";
    std::fs::write(&schedule, faults).unwrap();
    let run = ["run", "--users", "30", "--events-per-second", "100", "--for", "8s", "--seed", "1"];
    let faults = ["--faults", schedule.to_str().unwrap(), "--drain", "30s"];
    let (text, report) = reported(&stage, 0, &[&run[..], &faults].concat()).await;
    let counts = &report["counts"];
    for what in ["lost", "deaths", "gaps", "certain", "dead_letters", "listed"] {
        assert!(counts[what].as_u64().unwrap() > 0, "no {what} in {counts}\n{text}");
    }
    assert_eq!(counts["lost"], counts["covered"]);
    let done = report["faults"].as_array().unwrap();
    assert_eq!(done.len(), 8, "{done:?}");
    let restart = done.iter().find(|done| done["bridge"] == "bridge-0").unwrap();
    assert_eq!(restart["what"], "kill");
    assert!(restart["until"].as_u64() > restart["at"].as_u64());
}

#[tokio::test]
async fn a_run_may_attach_to_a_simulator_and_a_bridge_that_run_already() {
    let stage = Stage::new("load-attached").await;
    let bridge = stage.bridge().await;
    let token = stage.folder.path().join("another-token");
    std::fs::write(&token, TOKEN).unwrap();
    let simulator = format!("http://{}", stage.simulator.address());
    let attached = ["--simulator", &simulator, "--bridge", &bridge.url];
    let token = ["--token-file", token.to_str().unwrap()];
    let run = ["run", "--users", "10", "--for", "2s", "--fault", "empty_list:0.2"];
    let (text, report) = reported(&stage, 0, &[&run[..], &attached, &token].concat()).await;
    assert!(report["source"]["faults"]["empty_list"].as_u64().unwrap() > 0, "{text}");

    // the bridge is not ours
    let kill = load(&stage, &[&["run", "--faults", "restarts"][..], &attached].concat()).await;
    assert_eq!(kill.status.code(), Some(64));
    assert!(self::text(&kill).contains("bridges that run already are not killed"));
    assert_eq!(bridge.get("/livez").await.0, 200);
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_bridge_that_ran_already_and_is_killed_meanwhile_is_told_and_its_gaps_are_excused() {
    let mut stage = Stage::new("load-killed").await;
    let [port] = free_ports();
    stage.set("admin.listen", &format!("\"127.0.0.1:{port}\""));
    // what may have been lost is told when its queue is asked again
    stage.set("polling.keep_alive", "\"5s\"");
    stage.set("linxo.queue_lifetime", "\"30s\"");
    let bridge = stage.bridge().await;
    let simulator = format!("http://{}", stage.simulator.address());
    let url = bridge.url.clone();
    let attached = ["--simulator", &simulator, "--bridge", &url];
    // answers take half a second, so some are always on their way
    let run = ["run", "--users", "20", "--for", "8s", "--fault", "slow:1"];
    let arguments = [&run[..], &attached].concat();
    let killing = async {
        let events = || stage.simulator.stats().handed_out;
        while events() < 50 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pid = bridge.pid();
        bridge.kill().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (pid, stage.bridge().await)
    };
    let ((text, report), (killed, bridge)) = tokio::join!(reported(&stage, 0, &arguments), killing);
    assert_ne!(killed, bridge.pid());
    let faults = report["faults"].as_array().unwrap();
    let away: Vec<&Value> = faults.iter().filter(|done| done["what"] == "away").collect();
    assert_eq!(away.len(), 1, "{faults:?}\n{text}");
    assert!(text.contains("is away, and nobody here did it") && text.contains("is back"), "{text}");
    assert!(text.contains("bridges were struck 1 times"), "{text}");
    assert!(report["counts"]["gaps"].as_u64() > Some(0), "{text}");
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn topics_that_were_tampered_with_do_not_agree_and_the_event_is_named() {
    let mut stage = Stage::new("load-tampered").await;
    let bridge = stage.bridge().await;
    for user in ["alice", "bob"] {
        bridge.put(user).await;
        stage.simulator.start_sync(user, &Sync::default()).unwrap();
    }
    let events = stage.drained().await;
    let simulator = format!("http://{}", stage.simulator.address());
    let judge = ["judge", "--simulator", &simulator, "--drain", "3s"];
    reported(&stage, 0, &judge).await;

    // one event a second time, byte for byte
    let record = &events[3].record;
    let producer: FutureProducer = stage.kafka.client().create().unwrap();
    let double = FutureRecord::to(&record.topic)
        .key(record.key.as_ref().unwrap())
        .payload(record.value.as_ref().unwrap());
    producer.send(double, Duration::from_secs(10)).await.unwrap();
    let (text, report) = reported(&stage, 1, &judge).await;
    assert_eq!(report["offended"]["twice"], 1, "{text}");
    let event = events[3].text("idempotency_key");
    let offences = report["offences"].as_array().unwrap();
    let offence = offences.iter().find(|offence| offence["rule"] == "twice").unwrap();
    assert_eq!(offence["events"][0], event);
    assert!(text.contains(&format!("twice: event {event}")), "{text}");
    let history = offence["history"].as_array().unwrap();
    let told = |what: &str| {
        let told = history.iter().filter(|it| it["what"].as_str().unwrap().contains(what));
        told.count()
    };
    assert_eq!((told("made for"), told("handed out in answer"), told("in load")), (1, 1, 2));

    // other topics, in which none of it stands
    stage.set("topics.prefix", "\"load-elsewhere.\"");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let (text, report) = reported(&stage, 1, &judge).await;
    assert_eq!(report["offended"]["lost"], events.len(), "{text}");
    assert!(text.contains(&format!("lost: event {event} of")), "{text}");
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn what_cannot_be_told_is_no_agreement_and_a_wrong_command_line_is_refused() {
    let mut stage = Stage::new("load-usage").await;
    for (arguments, wrong) in [
        (vec!["run", "--fault", "cat:0.1"], "no fault is called \"cat\""),
        (vec!["run", "--faults", "sometimes"], "no word"),
        (vec!["run", "--users", "none"], "invalid value"),
        (vec!["judge"], "give --simulator"),
    ] {
        let output = load(&stage, &arguments).await;
        assert_eq!(output.status.code(), Some(64), "{}", text(&output));
        assert!(text(&output).contains(wrong), "{}", text(&output));
    }
    // nobody asks for what waits
    stage.simulator.open_queue("alice").unwrap();
    stage.simulator.start_sync("alice", &Sync::default()).unwrap();
    let simulator = format!("http://{}", stage.simulator.address());
    let judge = ["judge", "--simulator", &simulator, "--drain", "3s"];
    let (text, report) = reported(&stage, 2, &judge).await;
    assert_eq!(report["outcome"], "cannot_tell");
    assert!(text.contains("events still wait at the source"), "{text}");
    // topics that are not there
    stage.set("topics.prefix", "\"load-nowhere.\"");
    let output = load(&stage, &judge).await;
    assert_eq!(output.status.code(), Some(2), "{}", self::text(&output));
    assert!(self::text(&output).contains("cannot be read"), "{}", self::text(&output));
}
