//! `subscriptions import` and `subscriptions export`: many users are put from JSON lines and written as
//! JSON lines, nobody is left out in silence, and no credential is told.

#![allow(unreachable_pub, reason = "a program has no public items")]
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod fake;
mod program;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Fake, answer, busy, done, shown};
use linxo_kafka_bridge::simulator::Options;
use program::{ended, run, start};
use serde_json::{Value, json};
use support::{Stage, free_ports};
use tokio::process::Command;
use tokio::time::Instant;

const SECRET: &str = "hush-hush";

/// A line for a user with the bridge's own credentials.
fn line(user: &str) -> String {
    json!({"user_id": user, "credential": {"type": "client"}}).to_string()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn users_are_put_in_bulk_and_exported_as_they_are_and_bad_lines_are_told_without_secrets() {
    let stage = Stage::new("bulk").await;
    let bridge = stage.bridge().await;
    let url = ["--url", bridge.url.as_str()];
    let mut users: BTreeSet<String> =
        (0..1_040).map(|number| format!("user/{number} é?%2F#&+")).collect();
    let odd = ["..a", " ", "%", "a//b", "100%25", "plus+plus", "\"q\\", "用户-🦀", "tab\t\nline"];
    users.extend(odd.map(str::to_owned));
    users.insert("x".repeat(1024));
    let adopted = stage.simulator.open_queue("adopting").unwrap();
    let adopting =
        json!({"user_id": "adopting", "credential": {"type": "client"}, "queue_id": adopted});
    let mut good: Vec<String> = users.iter().map(|user| line(user)).collect();
    good.push(adopting.to_string());
    users.insert("adopting".to_owned());

    let token = |user: &str, token: &str| {
        json!({"user_id": user, "credential": {"type": "access_token", "access_token": token}})
            .to_string()
    };
    let bad = [
        format!(r#"{{"user_id":"bad","credential":{{"type":"password","password":"{SECRET}"#),
        format!(r#"{{"user_id":"bad","credential":"{SECRET}"}}"#),
        format!(r#"{{"user_id":"bad","credential":{{"type":"{SECRET}"}}}}"#),
        format!(r#"{{"user_id":"bad","credential":{{"type":"client","{SECRET}":1}}}}"#),
        format!(r#"{{"user_id":"bad","credential":{{"type":"client"}},"{SECRET}":1}}"#),
        format!(r#"{{"credential":{{"type":"client"}},"queue_id":"{SECRET}"}}"#),
        r#"{"user_id":7,"credential":{"type":"client"}}"#.to_owned(),
        r#"{"user_id":"..","credential":{"type":"client"}}"#.to_owned(),
        line(&"y".repeat(1025)),
        token("bad", SECRET), // the source refuses it
        SECRET.to_owned(),
    ];
    let too_long = token("bad", &SECRET.repeat(8_000));
    let mut lines = good.clone();
    let at = 500;
    lines.splice(at..at, bad.iter().cloned().chain([too_long, String::new()]));
    let file = stage.folder.path().join("lines");
    let rejected = stage.folder.path().join("again");
    std::fs::write(&file, text(&lines)).unwrap();
    let (file, again) = (file.to_str().unwrap(), rejected.to_str().unwrap());
    let import = ["import", file, "--rejected", again, url[0], url[1]];
    let ran = run(&stage, &import, "").await.ended(1);
    ran.assert_secret(&stage);
    assert_eq!(ran.stdout, "");
    let failed = bad.len() + 1;
    ran.told(&format!("import: {0} done ({0} created, 0 existed), {failed} failed, ", users.len()));
    for number in at + 1..=at + failed {
        let head = format!("line {number}");
        assert_eq!(
            ran.stderr.lines().filter(|told| told.starts_with(&head)).count(),
            1,
            "{head}:\n{}",
            ran.stderr
        );
    }
    ran.told("line 501 is not JSON: fault at byte ");
    ran.told("line 502, user \"bad\": 422: /credential must be an object");
    ran.told("line 504, user \"bad\": 422: A field of the body is missing, unknown or wrong");
    ran.told("line 506 user_id is missing");
    ran.told("line 510, user \"bad\": 422: linxo refused the credential");
    ran.told("line 512 is longer than 65536 bytes");
    for user in &users {
        assert_eq!(stage.simulator.live_queues(user).len(), 1, "{user}");
    }
    assert!(stage.simulator.live_queues("bad").is_empty());

    let mode = std::fs::metadata(&rejected).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&rejected).unwrap();
    let kept: BTreeSet<&str> = kept.lines().collect();
    assert_eq!(kept, bad.iter().map(String::as_str).collect());
    std::fs::remove_file(&rejected).unwrap();

    let exported = run(&stage, &["export", url[0], url[1]], "").await.ended(0);
    exported.assert_secret(&stage);
    exported.told(&format!("export: {} subscriptions. No credentials are among them", users.len()));
    exported.told("no backup");
    let written = exported.lines();
    let ids = written.iter().map(|line| line["user_id"].as_str().unwrap());
    assert!(ids.eq(users.iter().map(String::as_str)), "all, in order, each as it is");
    for line in &written {
        let queues = stage.simulator.live_queues(line["user_id"].as_str().unwrap());
        assert_eq!([line["queue_id"].as_str().unwrap()], *queues);
        let fields: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "blocked_reason credential generation partition queue_id state \
                        subscription_id user_id";
        assert_eq!(fields, expected.split_whitespace().collect());
        assert_eq!(
            (&line["credential"], &line["generation"]),
            (&json!({"type": "client"}), &json!(1))
        );
    }
    let adopting = written.iter().find(|line| line["user_id"] == "adopting").unwrap();
    assert_eq!(adopting["queue_id"], adopted);

    // what was exported of the bridge's own users is an import again, which finds them all
    let again_lines: Vec<String> = written
        .iter()
        .map(|line| {
            json!({"user_id": line["user_id"], "credential": line["credential"]}).to_string()
        })
        .collect();
    let import = ["import", "--at-a-time", "8", "--rejected", again, url[0], url[1]];
    let ran = run(&stage, &import, &text(&again_lines)).await.ended(0);
    ran.told(&format!("import: {0} done (0 created, {0} existed), 0 failed, ", users.len()));
    assert!(!rejected.exists(), "nothing was rejected");
    let unchanged = run(&stage, &["export", url[0], url[1]], "").await.ended(0).lines();
    for (before, after) in written.iter().zip(&unchanged) {
        for field in ["user_id", "subscription_id", "queue_id", "generation"] {
            assert_eq!(before[field], after[field]);
        }
    }
    assert_eq!(unchanged.len(), written.len());
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn an_import_to_nobody_ends_with_its_patience_and_goes_on_when_somebody_is_there() {
    let mut stage = Stage::new("nobody").await;
    let port = free_ports::<1>()[0];
    stage.set("admin.listen", &format!("\"127.0.0.1:{port}\""));
    let users: BTreeSet<String> = (0..200).map(|number| format!("user {number:03}")).collect();
    let lines: Vec<String> = users.iter().map(|user| line(user)).collect();
    let rejected: PathBuf = stage.folder.path().join("again");
    let again = rejected.to_str().unwrap();

    // whom the configuration names, unless told otherwise
    let since = Instant::now();
    let import = ["import", "-", "--patience", "2s", "--rejected", again];
    let ran = run(&stage, &import, &text(&lines)).await.ended(1);
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    ran.told(&format!("http://127.0.0.1:{port} does not answer: Connection refused"));
    ran.told("import stopped: no call was served for 2s: ");
    let (_, next) = ran.stderr.trim_end().rsplit_once("--resume-from ").unwrap();

    // a bridge that is being started is waited for
    let rest = start(&stage, &["import", "--resume-from", next]);
    let rejected_lines = start(&stage, &["import", again]);
    let bridge = stage.bridge().await;
    ended(rest, &text(&lines)).await.ended(0);
    ended(rejected_lines, "").await.ended(0);
    let exported = run(&stage, &["export"], "").await.ended(0).lines();
    let ids = exported.iter().map(|line| line["user_id"].as_str().unwrap());
    assert!(ids.eq(users.iter().map(String::as_str)), "nobody is left out");
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_door_that_will_never_serve_ends_an_import_at_once_and_another_door_helps_out() {
    let stage = Stage::new("doors").await;
    let bridge = stage.bridge().await;
    let lines: Vec<String> = (0..50).map(|number| line(&format!("user-{number}"))).collect();
    let dead = format!("http://127.0.0.1:{}", free_ports::<1>()[0]);
    let two = ["import", "--url", &dead, "--url", &bridge.url];
    run(&stage, &two, &text(&lines)).await.ended(0).told("import: 50 done (50 created,");

    let other = Stage::bare("other-token", Options::default(), &[]).await;
    std::fs::write(other.folder.path().join("token"), "another-token").unwrap();
    let since = Instant::now();
    let import = ["import", "--url", &bridge.url];
    let ran = run(&other, &import, &text(&lines)).await.ended(1);
    ran.told("import stopped: no call will be served: 401: send the token of admin.token_file");
    ran.told("go on with --resume-from 1\n");
    let ran = run(&other, &["export", "--url", &bridge.url], "").await.ended(1);
    ran.told("export INCOMPLETE, 0 subscriptions were written: 401: ");
    let source = stage.simulator.url();
    let ran = run(&stage, &["import", "--url", &source], &text(&lines)).await.ended(1);
    ran.told("is not the admin API of a bridge");
    let yes = Fake::start(|_, _| std::future::ready(answer(200, None, &json!({})))).await;
    let ran = run(&stage, &["import", "--url", &yes.url], &text(&lines)).await.ended(1);
    ran.told("200: what answers at ");
    ran.told("is not the admin API of a bridge");
    assert!(since.elapsed() < Duration::from_secs(50), "none of it waits for its patience");

    for (arguments, told) in [
        (vec!["import", "not-there"], "not-there: No such file"),
        (vec!["import", "--rejected", "Cargo.toml"], "--rejected Cargo.toml: File exists"),
    ] {
        run(&stage, &arguments, "").await.ended(1).told(told);
    }
    for arguments in [
        ["import", "--url", "ftp://host.example"],
        ["import", "--patience", "0s"],
        ["import", "--at-a-time", "0"],
        ["export", "--url", "127.0.0.1"],
    ] {
        run(&stage, &arguments, "").await.ended(64);
    }
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_door_that_is_busy_is_left_alone_for_as_long_as_it_asks() {
    let stage = Stage::bare("busy", Options::default(), &[]).await;
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&times);
    let door = Fake::start(move |number, path| {
        noted.lock().unwrap().push(Instant::now());
        std::future::ready(match number {
            1 => answer(503, Some("2"), &busy()),
            _ => done(201, &path),
        })
    })
    .await;
    let import = ["import", "--url", &door.url];
    run(&stage, &import, &line("user")).await.ended(0).told("1 done (1 created, 0 existed)");
    let times = times.lock().unwrap().clone();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(2), "{:?}", times[1] - times[0]);

    // asked to wait beyond the patience, it does not wait at all
    let door = Fake::start(|_, _| std::future::ready(answer(503, Some("60"), &busy()))).await;
    let since = Instant::now();
    let import = ["import", "--patience", "30s", "--url", &door.url];
    let ran = run(&stage, &import, &line("user")).await.ended(1);
    ran.told("line 1, user \"user\": 503: not all partitions have an owner");
    assert!(since.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn lines_of_one_user_are_put_in_their_order_and_users_beside_each_other() {
    let stage = Stage::bare("order", Options::default(), &[]).await;
    let under_way: Arc<Mutex<Vec<String>>> = Arc::default();
    let (most, twice): (Arc<Mutex<usize>>, Arc<Mutex<BTreeSet<String>>>) = Default::default();
    let (now, highest, doubled) = (under_way, Arc::clone(&most), Arc::clone(&twice));
    let door = Fake::start(move |number, path| {
        let (now, highest, doubled) =
            (Arc::clone(&now), Arc::clone(&highest), Arc::clone(&doubled));
        async move {
            {
                let mut now = now.lock().unwrap();
                if now.contains(&path) {
                    doubled.lock().unwrap().insert(path.clone());
                }
                now.push(path.clone());
                let mut highest = highest.lock().unwrap();
                *highest = now.len().max(*highest);
            }
            // the first takes longest
            tokio::time::sleep(Duration::from_millis(if number < 8 { 200 } else { 5 })).await;
            now.lock().unwrap().retain(|other| *other != path);
            done(200, &path)
        }
    })
    .await;
    let lines: Vec<String> = (0..60)
        .map(|number| {
            // one who comes often, and others in between
            let user = if number % 3 == 0 { "often".to_owned() } else { format!("u{}", number % 7) };
            json!({"user_id": user, "credential": {"type": "client"}, "queue_id": number.to_string()})
                .to_string()
        })
        .collect();
    let import = ["import", "--at-a-time", "4", "--url", &door.url];
    run(&stage, &import, &text(&lines)).await.ended(0).told("60 done (0 created, 60 existed)");
    let asked = door.asked();
    assert_eq!(asked.len(), 60);
    for user in ["often", "u0", "u1", "u2", "u3", "u4", "u5", "u6"] {
        let path = format!("/v1/subscriptions/{user}");
        let queues: Vec<u64> = asked
            .iter()
            .filter(|(asked, _)| *asked == path)
            .map(|(_, body)| body["queue_id"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(queues.len() > 1 && queues.is_sorted(), "{user}: {queues:?}");
    }
    assert_eq!(*twice.lock().unwrap(), BTreeSet::new(), "put twice at the same time");
    let most = *most.lock().unwrap();
    assert!((2..=4).contains(&most), "{most} at the same time");
}

#[tokio::test]
async fn an_import_that_is_asked_to_end_says_where_to_go_on() {
    let stage = Stage::bare("asked", Options::default(), &[]).await;
    let door = Fake::start(|number, path| async move {
        if number == 3 {
            std::future::pending::<()>().await;
        }
        done(201, &path)
    })
    .await;
    let lines: Vec<String> = (1..=5).map(|number| line(&format!("u{number}"))).collect();
    let import = start(&stage, &["import", "--at-a-time", "1", "--url", &door.url]);
    let pid = import.id().unwrap();
    let ended = tokio::spawn(async move { ended(import, &text(&lines)).await });
    support::oracle::eventually("the third is called", || door.asked().len() == 3).await;
    let sent = Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().await;
    assert!(sent.unwrap().success());
    let ran = ended.await.unwrap().ended(1);
    ran.told("import: 2 done (2 created, 0 existed), 0 failed");
    ran.told("import stopped: asked to end; go on with --resume-from 3\n");
}

#[tokio::test]
async fn an_export_that_is_not_whole_does_not_look_whole() {
    let mut stage = Stage::bare("part", Options::default(), &[]).await;
    let page = |users: &[&str], next: Option<&str>| {
        let users: Vec<Value> = users.iter().map(|user| shown(user)).collect();
        json!({"subscriptions": users, "next": next})
    };
    let (first, last) = (page(&["a", "b &+"], Some("b &+")), page(&["c"], None));
    let export =
        |url: &str| ["export", "--patience", "1s", "--url", url].map(str::to_owned).to_vec();
    let told = async |stage: &Stage, door: &Fake, code: i32| {
        let arguments = export(&door.url);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(stage, &arguments, "").await.ended(code)
    };

    let (one, two) = (first.clone(), last.clone());
    let whole = Fake::start(move |number, _| {
        std::future::ready(answer(200, None, if number == 1 { &one } else { &two }))
    })
    .await;
    let ran = told(&stage, &whole, 0).await;
    let ids: Vec<String> =
        ran.lines().iter().map(|line| line["user_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["a", "b &+", "c"]);
    let paths: Vec<String> = whole.asked().into_iter().map(|(path, _)| path).collect();
    let expected = "/v1/subscriptions?limit=1000";
    assert_eq!(paths, [expected.to_owned(), format!("{expected}&after=b+%26%2B")]);

    // a partition that nobody owns when the second page is asked for
    let one = first.clone();
    let uncovered = Fake::start(move |number, _| {
        std::future::ready(match number {
            1 => answer(200, None, &one),
            _ => answer(503, Some("1"), &busy()),
        })
    })
    .await;
    let ran = told(&stage, &uncovered, 1).await;
    assert_eq!(ran.lines().len(), 2, "what came is written");
    ran.told("export INCOMPLETE, 2 subscriptions were written: 503: not all partitions have an");

    // pages that go in a circle, that lack a field, that are none
    for (strange, said) in [
        (first.clone(), "does not go on from there"),
        (page(&[], Some("c")), "does not go on from there"),
        (json!({"subscriptions": [{"user_id": "c"}], "next": null}), "cannot be read"),
        (json!({"users": []}), "is not the admin API of a bridge"),
    ] {
        let one = first.clone();
        let door = Fake::start(move |number, _| {
            std::future::ready(answer(200, None, if number == 1 { &one } else { &strange }))
        })
        .await;
        let ran = told(&stage, &door, 1).await;
        ran.told("export INCOMPLETE, 2 subscriptions were written: ");
        ran.told(said);
    }

    // an instance that does not know yet what there is
    stage.set("kafka.bootstrap_servers", "\"127.0.0.1:9\"");
    let bridge = stage.start().await;
    let arguments = export(&bridge.url);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = run(&stage, &arguments, "").await.ended(1);
    assert_eq!(ran.stdout, "");
    ran.told("export INCOMPLETE, 0 subscriptions were written: 503: kafka cannot be reached");
    assert!(bridge.stop().await.success());
}
