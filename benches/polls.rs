//! What an empty poll costs with 1 to 1,024 questions in flight: the whole bridge beside bare loops of the HTTP
//! clients there are, by turns in one run, against one simulated source. Prints figures; asserts nothing, since the
//! machines are noisy.
//!
//! `cargo bench --bench polls`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a run that fails says so by panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::rc::Rc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use linxo_kafka_bridge::simulator::Options;
use serde_json::json;
use support::source::{SourceProcess, usage};
use support::{Kafka, Stage, http, path_of};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

const USERS: usize = 5_000;
const IN_FLIGHT: [usize; 5] = [1, 16, 64, 256, 1_024];
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(6);

/// What one turn came to.
#[derive(Clone, Copy)]
struct Turn {
    per_second: f64,
    /// CPU of the asking process for each, in us.
    each: f64,
}

/// One of the clients that are measured bare.
#[derive(Clone, Copy)]
enum Bare {
    Reqwest,
    HyperUtil,
}

#[tokio::main]
async fn main() {
    let source = SourceProcess::start(&["--token-lifetime", "10h"]).await;
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let mut stage = Stage::on(kafka, "polls", Options::default(), &[]).await;
    stage.set("linxo.api_url", &format!("\"{}/v2.1\"", source.base));
    stage.set("linxo.auth_url", &format!("\"{}/auth\"", source.base));
    stage.set("linxo.max_requests_per_second", "1000000");
    stage.set("topics.partitions", "64");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    subscribe(&stage).await;
    // every queue is overdue at any time: as many questions are under way as are allowed
    stage.set("polling.keep_alive", "\"10ms\"");
    stage.set("polling.active", "\"10ms\"");
    let question = question(&source).await;

    println!(
        "in flight |          bridge |         reqwest |      hyper-util | bridge / reqwest, / hyper-util"
    );
    for in_flight in IN_FLIGHT {
        let (mut bridge, mut reqwest, mut hyper) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bridge.push(of_bridge(&mut stage, in_flight).await);
            reqwest.push(of_bare(Bare::Reqwest, question.clone(), in_flight));
            hyper.push(of_bare(Bare::HyperUtil, question.clone(), in_flight));
        }
        let [bridge, reqwest, hyper] = [bridge, reqwest, hyper].map(middle);
        println!(
            "{in_flight:>9} | {} | {} | {} | {:.2}, {:.2}",
            shown(bridge),
            shown(reqwest),
            shown(hyper),
            bridge.each / reqwest.each,
            bridge.each / hyper.each
        );
    }
}

fn shown(turn: Turn) -> String {
    format!("{:>6.0}/s {:>5.1}us", turn.per_second, turn.each)
}

/// The turn with the middle cost.
fn middle(mut turns: Vec<Turn>) -> Turn {
    turns.sort_by(|one, other| one.each.total_cmp(&other.each));
    turns[turns.len() / 2]
}

async fn subscribe(stage: &Stage) {
    let bridge = stage.bridge().await;
    let users: Vec<String> = (0..USERS).map(|user| format!("user-{user:05}")).collect();
    for users in users.chunks(100) {
        let mut puts = JoinSet::new();
        for user in users {
            let put = http().put(format!("{}{}", bridge.url, path_of(user)));
            let put = put.bearer_auth(support::TOKEN);
            let put = put.json(&json!({"credential": {"type": "client"}}));
            puts.spawn(async move { put.send().await.unwrap().status() });
        }
        while let Some(status) = puts.join_next().await {
            assert_eq!(status.unwrap(), 201);
        }
    }
    bridge.stop().await;
}

async fn of_bridge(stage: &mut Stage, in_flight: usize) -> Turn {
    stage.set("polling.max_in_flight", &in_flight.to_string());
    let bridge = stage.bridge().await;
    // loaded, and every connection made
    tokio::time::sleep(WARM_UP + Duration::from_secs(2)).await;
    let polls = "linxo_bridge_polls_total{outcome=\"empty\"}";
    let before = bridge.metric(polls).await;
    let (cpu, began) = (usage(bridge.pid()).0, Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (spent, took) = (usage(bridge.pid()).0 - cpu, began.elapsed());
    let polled = bridge.metric(polls).await - before;
    bridge.stop().await;
    Turn { per_second: polled / took.as_secs_f64(), each: spent / polled * 1e6 }
}

/// What a bare loop asks, made once.
#[derive(Clone)]
struct Question {
    url: String,
    authorization: HeaderValue,
    user: (HeaderName, HeaderValue),
}

async fn question(source: &SourceProcess) -> Question {
    let base = &source.base;
    let bearer = format!("Bearer {}", source.client_token().await);
    let made = http()
        .post(format!("{base}/v2.1/queues/subscribe"))
        .header("authorization", &bearer)
        .header("x-linxo-user-id", "bare")
        .json(&json!({"topics": ["connections"]}))
        .send()
        .await
        .unwrap();
    let location = made.headers()["location"].to_str().unwrap();
    Question {
        url: format!("{base}/v2.1{location}"),
        authorization: bearer.parse().unwrap(),
        user: (HeaderName::from_static("x-linxo-user-id"), HeaderValue::from_static("bare")),
    }
}

/// So many loops that ask, one question after another, on a runtime of one thread, as the bridge's is.
fn of_bare(client: Bare, question: Question, in_flight: usize) -> Turn {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let asked = Rc::new(std::cell::Cell::new(0_u32));
            match client {
                Bare::Reqwest => {
                    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true);
                    let client = client.build().unwrap();
                    let url: reqwest::Url = question.url.parse().unwrap();
                    for _ in 0..in_flight {
                        let (client, url, question) =
                            (client.clone(), url.clone(), question.clone());
                        let asked = Rc::clone(&asked);
                        tokio::task::spawn_local(async move {
                            let (name, user) = question.user;
                            loop {
                                let request = client
                                    .get(url.clone())
                                    .header(AUTHORIZATION, question.authorization.clone())
                                    .header(name.clone(), user.clone());
                                let answer = request.send().await.unwrap();
                                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
                                asked.set(asked.get() + 1);
                            }
                        });
                    }
                }
                Bare::HyperUtil => {
                    let mut connector = HttpConnector::new();
                    connector.set_nodelay(true);
                    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
                        .pool_timer(TokioTimer::new())
                        .build(connector);
                    let uri: Uri = question.url.parse().unwrap();
                    for _ in 0..in_flight {
                        let (client, uri, question) =
                            (client.clone(), uri.clone(), question.clone());
                        let asked = Rc::clone(&asked);
                        tokio::task::spawn_local(async move {
                            let (name, user) = question.user;
                            loop {
                                let request = Request::get(uri.clone())
                                    .header(AUTHORIZATION, question.authorization.clone())
                                    .header(name.clone(), user.clone())
                                    .body(Empty::new())
                                    .unwrap();
                                let answer = client.request(request).await.unwrap();
                                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
                                asked.set(asked.get() + 1);
                            }
                        });
                    }
                }
            }
            tokio::time::sleep(WARM_UP).await;
            let pid = std::process::id();
            let (cpu, began, before) = (usage(pid).0, Instant::now(), asked.get());
            tokio::time::sleep(MEASURED).await;
            let (spent, took) = (usage(pid).0 - cpu, began.elapsed());
            let made = f64::from(asked.get() - before);
            Turn { per_second: made / took.as_secs_f64(), each: spent / made * 1e6 }
        })
    })
    .join()
    .unwrap()
}
