//! What the fault suite builds on does what it says: three brokers that fail one by one, leaders that move, rights that
//! are taken away, a disk that is full, and a proxy that is in the way.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use support::java::{Resource, move_leaders, restore, revoke};
use support::proxy::{END_TXN, Proxy, Way};
use support::{Kafka, free_ports, oracle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const MOMENT: Duration = Duration::from_millis(200);

/// Writes one record, past the proxies; Ok when it is in.
async fn write(kafka: &Kafka, topic: &str, patience: Duration) -> Result<(), String> {
    let mut config = kafka.client();
    config
        .set("bootstrap.servers", kafka.entrance())
        .set("delivery.timeout.ms", patience.as_millis().to_string());
    let producer: FutureProducer = config.create().unwrap();
    let record = FutureRecord::<str, str>::to(topic).key("key").payload("value");
    match producer.send(record, patience).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error.to_string()),
    }
}

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn of_three_brokers_one_may_fail_in_every_way_and_not_two() {
    let kafka = Kafka::behind_proxies(3, &[]).await;
    kafka.create_topic("topic", 3, &[]).await;
    write(&kafka, "topic", LONG).await.unwrap();

    let before = kafka.leaders("topic").await;
    move_leaders(kafka.bootstrap_servers(), &["topic".to_owned()]).await;
    let after = kafka.leaders("topic").await;
    let stayed = before.iter().filter(|led| after.contains(led)).count();
    assert_eq!((stayed, after.len()), (0, 3), "{before:?}, {after:?}");

    kafka.broker(1).fill_disk();
    write(&kafka, "topic", LONG).await.unwrap();
    kafka.create_topic("another", 3, &[]).await;
    oracle::eventually("a broker that cannot write ends", || kafka.broker(1).has_ended()).await;
    write(&kafka, "topic", LONG).await.unwrap();
    kafka.broker(2).pause();
    assert!(write(&kafka, "topic", SHORT).await.is_err(), "one of three is no majority");
    kafka.heal().await;
    write(&kafka, "topic", LONG).await.unwrap();

    kafka.broker(3).stop_gracefully().await;
    write(&kafka, "topic", LONG).await.unwrap();
    kafka.broker(3).restart().await;
    for broker in kafka.brokers() {
        broker.proxy().set(Way::Cut);
    }
    assert!(write(&kafka, "topic", SHORT).await.is_err(), "every way is cut");
    kafka.heal().await;
    write(&kafka, "topic", LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_write_can_be_taken_and_given_back() {
    let authorizer = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let kafka = Kafka::start_with(&authorizer).await;
    kafka.create_topic("topic", 1, &[]).await;
    write(&kafka, "topic", LONG).await.unwrap();
    revoke(kafka.bootstrap_servers(), Resource::Topic("topic")).await;
    let refused = write(&kafka, "topic", LONG).await.unwrap_err();
    assert!(refused.contains("Topic authorization failed"), "{refused}");
    restore(kafka.bootstrap_servers(), Resource::Topic("topic")).await;
    write(&kafka, "topic", LONG).await.unwrap();
}

/// A server that gives back what it gets, and a connection to it through a proxy.
async fn echo() -> (Proxy, TcpStream) {
    let [port] = free_ports();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    let proxy = Proxy::before(port);
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    (proxy, stream)
}

/// What comes back within a moment: nothing, bytes, or the end (no bytes).
async fn comes(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 64];
    let length = timeout(MOMENT, stream.read(&mut bytes)).await.ok()?.unwrap_or(0);
    Some(bytes[..length].to_vec())
}

#[tokio::test]
async fn a_proxy_hands_on_what_it_held_back_and_closes_what_it_cut() {
    let (proxy, mut stream) = echo().await;
    stream.write_all(b"one").await.unwrap();
    assert_eq!(comes(&mut stream).await.as_deref(), Some(&b"one"[..]));

    proxy.set(Way::BlackHole);
    stream.write_all(b"two").await.unwrap();
    assert_eq!(comes(&mut stream).await, None);
    proxy.set(Way::Open);
    assert_eq!(comes(&mut stream).await.as_deref(), Some(&b"two"[..]));

    proxy.set(Way::Slow(MOMENT / 4));
    let began = Instant::now();
    stream.write_all(b"three").await.unwrap();
    assert_eq!(comes(&mut stream).await.as_deref(), Some(&b"three"[..]));
    assert!(began.elapsed() >= MOMENT / 2, "there and back are two delays");

    proxy.set(Way::Throttled(100));
    let began = Instant::now();
    stream.write_all(b"0123456789").await.unwrap();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 10);
    assert!(began.elapsed() >= Duration::from_millis(200), "ten bytes there and back");

    proxy.set(Way::Cut);
    assert_eq!(comes(&mut stream).await, Some(Vec::new()), "closed");
    let mut other = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert_eq!(comes(&mut other).await, Some(Vec::new()), "closed at once");
}

#[tokio::test]
async fn a_deaf_proxy_swallows_the_answers_to_one_kind_of_call_and_what_follows() {
    // to the proxy, what comes back looks like answers: length, then the number of the request
    let frame = |call: i16, number: i32| {
        let mut frame = 10_i32.to_be_bytes().to_vec();
        frame.extend(call.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(number.to_be_bytes());
        frame.extend([7, 7]);
        frame
    };
    // the echo of a request carries its call where an answer carries its number
    let commit = frame(END_TXN, i32::from(END_TXN) << 16);
    let other = frame(3, 1);
    let (proxy, mut stream) = echo().await;
    proxy.set(Way::Deaf(END_TXN));
    stream.write_all(&other).await.unwrap();
    assert_eq!(comes(&mut stream).await.as_deref(), Some(&other[..]));
    let both: Vec<u8> = [&other[..], &commit, &other].concat();
    let (first, rest) = both.split_at(17);
    stream.write_all(first).await.unwrap();
    let mut came = comes(&mut stream).await.unwrap();
    stream.write_all(rest).await.unwrap();
    came.extend(comes(&mut stream).await.unwrap_or_default());
    assert!(came.len() < 28 && both.starts_with(&came), "{came:?}");
    assert_eq!(comes(&mut stream).await, None, "nothing more, and no end");
    proxy.set(Way::Open);
    assert_eq!(comes(&mut stream).await, Some(Vec::new()), "closed, as the two ends disagree");
}
