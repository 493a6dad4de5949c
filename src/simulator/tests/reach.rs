//! The source that cannot be reached, and its clock.

use std::io::ErrorKind;

use tokio::net::TcpStream;

use super::*;

async fn closed_for(bench: &Bench, length: Duration) {
    bench.simulator.unreachable(length);
    // The port is given up by a task of the simulator.
    let refused = async {
        while TcpStream::connect(bench.simulator.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
}

#[tokio::test]
async fn connections_are_refused_for_a_time_and_the_control_api_is_reached() {
    let lifetime = Duration::from_millis(300);
    let bench = Bench::with(Options { queue_lifetime: lifetime, ..Options::default() }).await;
    let queue = bench.queue("u").await;
    let began = tokio::time::Instant::now();
    closed_for(&bench, Duration::from_millis(400)).await;
    let refused = TcpStream::connect(bench.simulator.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let url = format!("{}/queues/{queue}", bench.simulator.url());
    let failure = bench.client.get(&url).send().await.unwrap_err();
    assert!(failure.is_connect(), "{failure:?}");
    let stats = bench.client.get(format!("{}/stats", bench.simulator.control_url()));
    assert_eq!(stats.send().await.unwrap().status(), StatusCode::OK);

    let reached = async {
        while TcpStream::connect(bench.simulator.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(399), "{:?}", began.elapsed());
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NOT_FOUND);
    let ledger = bench.simulator.ledger(None);
    assert_eq!(ledger.deaths[0].cause, DeathCause::Expired, "the clock went on");
    let outage = ledger.outages[0];
    assert_eq!(outage.to - outage.from, 400);
}

#[tokio::test]
async fn open_connections_are_cut_and_what_is_on_its_way_is_lost() {
    let bench = Bench::start().await;
    let idle = TcpStream::connect(bench.simulator.address()).await.unwrap();
    let queue = bench.queue_with(1, Fault::Slow { over_ms: 60_000 }).await;
    let mut answer = bench.ask("u", &queue).await;
    assert!(answer.chunk().await.unwrap().is_some());
    closed_for(&bench, Duration::from_secs(60)).await;
    let told = tokio::time::timeout(Duration::from_secs(10), idle.readable());
    told.await.unwrap().unwrap();
    assert!(!matches!(idle.try_read(&mut [0]), Ok(1..)));
    let rest = async { while let Ok(Some(_)) = answer.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(10), rest).await.unwrap();
    let lost = async {
        while bench.simulator.stats().lost_on_the_wire == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.unwrap();
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Slow))]);
}

#[tokio::test]
async fn healing_and_an_order_take_connections_again_before_the_time_is_over() {
    let bench = Bench::start().await;
    let heal = |bench: &Bench| bench.simulator.heal();
    let open = |bench: &Bench| bench.simulator.reachable();
    for end in [&heal as &dyn Fn(&Bench), &open] {
        closed_for(&bench, Duration::from_secs(3600)).await;
        end(&bench);
        let reached = async {
            while TcpStream::connect(bench.simulator.address()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap();
        bench.queue("u").await;
    }
    let outages = bench.simulator.ledger(None).outages;
    assert!(outages.iter().all(|outage| outage.to - outage.from < 60_000), "{outages:?}");
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_can_be_stopped() {
    let bench = Bench::start().await;
    closed_for(&bench, Duration::from_secs(3600)).await;
    tokio::time::timeout(Duration::from_secs(2), bench.simulator.stop()).await.unwrap();
}

#[tokio::test]
async fn a_skewed_clock_shows_in_the_date_of_an_answer() {
    for (skew, hours) in [(7_200_000, 2), (-7_200_000, -2), (0, 0)] {
        let bench = Bench::with(Options { clock_skew_ms: skew, ..Options::default() }).await;
        let answer = bench.subscribe("u").await;
        let date = answer.headers()["date"].to_str().unwrap();
        let shown = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
        let ahead = shown.as_second() - jiff::Timestamp::now().as_second();
        assert!((ahead - hours * 3600).abs() <= 5, "{date}");
    }
}
